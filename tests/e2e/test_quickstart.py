"""The quickstart's commands, cut short, as a user types them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = Path("runs/quickstart")
SHORT = (
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.enable_progress_bar=false",
)

pytestmark = pytest.mark.slow


def lit_vlm(folder: Path, *words: str, stdin: str | None = None) -> str:
    """Run a command to its end in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "lit_vlm", *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fit(folder: Path, *words: str) -> str:
    return lit_vlm(folder, "fit", "--config", "quickstart", *SHORT, *words)


def losses(run: Path) -> dict[int, str]:
    """Return the training loss of each logged step, as written; no step may stand twice."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    found = {int(row["step"]): row["train/loss"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart ran for a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    fit(folder, "--trainer.max_steps=12", "--trainer.log_every_n_steps=4")
    return folder


def test_a_run_leaves_its_files_behind(trained: Path) -> None:
    for name in ("checkpoints/last.ckpt", "metrics.csv", "config.yaml", "predictions.jsonl"):
        assert (trained / RUN / name).stat().st_size > 0
    assert (trained / RUN / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = (trained / RUN / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0].keys() == {"id", "images", "question", "answer", "generated", "correct"}
    assert [row["id"] for row in rows] == [f"test-{i}" for i in range(256)]
    assert list(losses(trained / RUN)) == [3, 7, 11]


def test_a_checkpoint_is_tested_without_a_config(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / RUN / "checkpoints" / "last.ckpt"
    output = lit_vlm(tmp_path, "test", "--ckpt_path", str(checkpoint), *SHORT)
    assert "blank" in output
    assert "shuffled" in output
    assert (trained / RUN / "predictions-last.jsonl").is_file()


def test_predicts_from_a_file_and_answers_a_question(trained: Path, tmp_path: Path) -> None:
    import easy_vqa

    checkpoint = str(trained / RUN / "checkpoints" / "last.ckpt")
    picture = easy_vqa.get_test_image_paths()[0]
    content = [{"type": "image", "path": picture}, {"type": "text", "text": "what color?"}]
    records = [{"id": f"q{i}", "messages": [{"role": "user", "content": content}]} for i in "ab"]
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ("--ckpt_path", checkpoint, "--data", str(data), "--output", "out/predictions.jsonl")
    lit_vlm(tmp_path, "predict", *words, "--trainer.enable_progress_bar=false")
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["id"] for answer in answers] == ["qa", "qb"]
    assert answers[0]["generated"] == answers[1]["generated"]

    asked = ("chat", "--ckpt_path", checkpoint, "--image", picture)
    assert lit_vlm(tmp_path, *asked, "what color?").strip() == answers[0]["generated"]
    dialogue = lit_vlm(tmp_path, *asked, stdin="what color?\nwhat color?\n\n")
    assert dialogue.count(">") == 3


def test_another_connector_by_one_flag(tmp_path: Path) -> None:
    fit(tmp_path, "--model.connector", "LinearConnector", "--trainer.max_steps=2")
    config = (tmp_path / RUN / "config.yaml").read_text()
    assert "LinearConnector" in config
    assert "MLPConnector" not in config


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    common = ("--trainer.max_steps=4", "--trainer.log_every_n_steps=1", "--data.drop_last=true")
    # BatchNorm looks at one process's pictures only, so it must stand still to be compared.
    still = '--trainer.callbacks=[{"class_path":"Freeze","init_args":{"parts":["encoder"]}}]'
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    fit(one, *common, still, "--data.batch_size=32")
    ddp = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=16")
    fit(two, *common, still, *ddp)
    alone, together = losses(one / RUN), losses(two / RUN)
    assert alone.keys() == together.keys()
    for step, loss in alone.items():
        assert float(loss) == pytest.approx(float(together[step]), rel=1e-4)
    rows = (two / RUN / "predictions.jsonl").read_text().splitlines()
    assert len(rows) == len({json.loads(row)["id"] for row in rows}) == 512


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    steps = ("--trainer.max_steps=30", "--trainer.log_every_n_steps=1", "--test_after_fit=false")
    often = ("--last_checkpoint.every_n_train_steps=6", "--data.num_workers=1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    fit(whole, *steps, *often)
    command = [sys.executable, "-m", "lit_vlm", "fit", "--config", "quickstart", *SHORT, *steps]
    process = subprocess.Popen(
        [*command, *often],
        cwd=killed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait_for_steps(killed / RUN, 15, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = losses(killed / RUN)
    assert max(before) < 29, "the run was over before it was killed"
    output = fit(killed, *steps, *often, "--ckpt_path", "last")
    assert "moved" not in output
    assert losses(killed / RUN) == losses(whole / RUN)


def _wait_for_steps(run: Path, steps: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, "the run ended by itself"
        metrics = run / "metrics.csv"
        checkpoint = run / "checkpoints" / "last.ckpt"
        if checkpoint.exists() and metrics.read_text().count("\n") > steps:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {steps} steps in time")
