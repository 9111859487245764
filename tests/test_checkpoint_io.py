import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lit_vlm.checkpoint_io import AtomicCheckpointIO

WRITER = """
import sys
import torch
from lit_vlm.checkpoint_io import AtomicCheckpointIO
large = torch.zeros(60_000_000)
print("ready", flush=True)
for number in range(1, 1000):
    AtomicCheckpointIO().save_checkpoint({"number": number, "large": large}, sys.argv[1])
"""


def saved(path: Path) -> int:
    return int(torch.load(path, weights_only=True, mmap=True)["number"])


def test_writes_what_it_was_given_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    for number in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"number": number}, path)
        assert saved(path) == number
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_others_may_read_the_file(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint({"number": 1}, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_keeps_the_previous_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"number": 2, "no": lambda: None}, path)
    assert saved(path) == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_sweeps_what_a_killed_write_of_the_same_file_left(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.abc.part").write_bytes(b"half")
    (tmp_path / ".best.ckpt.abc.part").write_bytes(b"another's")
    AtomicCheckpointIO().save_checkpoint({"number": 1}, tmp_path / "last.ckpt")
    assert sorted(os.listdir(tmp_path)) == [".best.ckpt.abc.part", "last.ckpt"]


def test_does_not_go_through_the_systems_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    AtomicCheckpointIO().save_checkpoint({"number": 1}, tmp_path / "last.ckpt")
    assert saved(tmp_path / "last.ckpt") == 1


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.5, 0.8])
def test_a_kill_while_writing_leaves_a_whole_checkpoint(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 0}, path)
    elsewhere = {**os.environ, "TMPDIR": "/dev/shm"}
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=elsewhere) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
    content = torch.load(path, weights_only=True)
    assert content["number"] == 0 or len(content["large"]) == 60_000_000
    AtomicCheckpointIO().save_checkpoint({"number": -1}, path)
    assert os.listdir(tmp_path) == ["last.ckpt"]
