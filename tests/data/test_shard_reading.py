import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_reading import count_samples, read_shard, short_name

WriteShard = Callable[..., Path]
Png = Callable[[int], bytes]


@pytest.fixture
def shard(write_shard: WriteShard, png: Png) -> Path:
    return write_shard("x.tar", {str(i): {"png": png(i), "txt": str(i)} for i in range(4)})


def test_reads_files_commands_and_compressed_files(shard: Path, tmp_path: Path, png: Png) -> None:
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    for name in (str(shard), f"pipe:cat {shard}", str(packed), f"file:{shard}"):
        samples = list(read_shard(name))
        assert [sample["__key__"] for sample in samples] == ["0", "1", "2", "3"]
        assert samples[2]["txt"] == b"2"
        assert samples[2]["png"] == png(2)


def test_a_reader_that_stops_early_is_no_failure_of_the_command(shard: Path) -> None:
    samples = read_shard(f"pipe:cat {shard} {shard} /dev/zero")
    assert next(samples)["__key__"] == "0"
    samples.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 22", "(exit|status) 22"),  # found by the library or, later, by us
        ("sleep 0.1; exit 22", "(exit|status) 22"),
        ("head -c 1000 {0}", "empty header|unexpected end of data"),
        ("cat {0}; exit 3", "exit 3"),
        ("yes", "not a gzip|could not be opened|opened successfully|invalid header"),
    ],
)
def test_names_the_shard_that_cannot_be_read(shard: Path, command: str, reason: str) -> None:
    name = f"pipe:{command.format(shard)}"
    with pytest.raises(BadSampleError, match=rf"pipe:.*: must be a whole tar file.*({reason})"):
        list(read_shard(name))


def test_refuses_two_members_of_one_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for name in ("a.png", "a.png"):
            shard.addfile(tarfile.TarInfo(name))
    with pytest.raises(BadSampleError, match="x.tar: must be .* duplicate file name"):
        list(read_shard(str(tmp_path / "x.tar")))


def test_counts_once_and_keeps_the_numbers(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "new" / "counts.json"
    assert count_samples([str(shard), f"pipe:cat {shard}"], counts) == [4, 4]
    assert list(counts.parent.iterdir()) == [counts]
    monkeypatch.setattr("lit_vlm.data.shard_reading.read_shard", None)
    assert count_samples([str(shard)], counts) == [4]


def test_knows_shards_by_their_short_names(tmp_path: Path) -> None:
    counts = tmp_path / "sizes.json"
    counts.write_text(json.dumps({"a.tar": 7, "s3://there/b.tar": 8, "c.tar": "many"}))
    assert count_samples(["s3://there/a.tar", "s3://there/b.tar"], counts) == [7, 8]
    with pytest.raises(BadSampleError, match=r"number of samples of s3://c.tar, got 'many'"):
        count_samples(["s3://c.tar"], counts)
    assert short_name("pipe:cat a/b.tar") == "pipe:cat a/b.tar"


def test_warns_that_counting_reads_what_is_far_away(shard: Path) -> None:
    with pytest.warns(UserWarning, match="samples of 1 shards must be counted"):
        assert count_samples([f"pipe:cat {shard}"], None) == [4]
