import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from webdataset.tariterators import tar_file_iterator

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_index import count_in_headers, index_shard
from lit_vlm.data.shard_reading import read_shard
from lit_vlm.data.shard_samples import SampleForm

WriteShard = Callable[..., Path]
Png = Callable[[int], bytes]

FORM = SampleForm(("png",), ("txt", "json"), "caption")
LONG = "a/folder/" + "long-" * 50 + "name"  # in a header of its own


@pytest.fixture
def shard(write_shard: WriteShard, png: Png) -> Path:
    samples = {
        "0": {"PNG": png(0), "txt": "zero"},
        LONG: {"json": {"caption": "one"}, "png": png(1), "cls": 3},
        "bare": {"png": png(2)},
    }
    return write_shard("train.tar", samples)


def _member(shard: Path, begin: int, end: int) -> bytes:
    [member] = tar_file_iterator(io.BytesIO(shard.read_bytes()[begin:end]))
    return bytes(member["data"])


def test_knows_where_each_member_is(shard: Path, png: Png) -> None:
    index = index_shard(shard, FORM)
    assert index.keys == ["0", LONG]
    assert index.endings.tolist() == [0, 1]
    pictures = [_member(shard, *span[:2]) for span in index.spans.tolist()]
    assert pictures == [png(0), png(1)]
    captions = [_member(shard, *span[2:]) for span in index.spans.tolist()]
    assert captions == [b"zero", b'{"caption": "one"}']
    assert index.problems == [
        ("bare", "must have captions (.txt, .json), got .png only."),
    ]


def test_groups_members_as_the_library_does(tmp_path: Path) -> None:
    names = ["b.png", "b.txt", "__meta__", "a.txt", "folder/b.png", "__x__/c.png", "none", "b.png"]
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for name in names:
            shard.addfile(tarfile.TarInfo(name))
    keys = [sample["__key__"] for sample in read_shard(str(tmp_path / "x.tar"))]
    assert keys == ["b", "a", "folder/b", "b"]
    assert count_in_headers(tmp_path / "x.tar") == 4
    index = index_shard(tmp_path / "x.tar", FORM)
    assert [*index.keys, *(key for key, _ in index.problems)] == keys


def test_keeps_an_index_until_the_shard_changes(
    shard: Path, tmp_path: Path, write_shard: WriteShard, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_shard(shard, FORM, tmp_path / "index")
    with monkeypatch.context() as patch:
        patch.setattr("lit_vlm.data.shard_index._scan", None)
        kept = index_shard(shard, FORM, tmp_path / "index")
    assert kept.keys == first.keys
    assert kept.problems == first.problems
    np.testing.assert_array_equal(kept.spans, first.spans)
    np.testing.assert_array_equal(kept.endings, first.endings)
    write_shard("train.tar", {"new": {"png": png(0), "txt": "new"}})
    assert index_shard(shard, FORM, tmp_path / "index").keys == ["new"]
    write_shard("train.tar", {"old": {"png": png(0), "txt": "old"}})
    assert index_shard(shard, FORM, tmp_path / "index").keys == ["old"]
    only_json = SampleForm(("png",), ("json",), "caption")
    assert index_shard(shard, only_json, tmp_path / "index").keys == []
    assert not list((tmp_path / "index").glob("*.part"))


@pytest.mark.parametrize("lost", [1, 700, 1600, 3000])
def test_refuses_a_shard_that_breaks_off(shard: Path, lost: int) -> None:
    whole = shard.read_bytes().rstrip(b"\0")
    shard.write_bytes(whole[:-lost])
    with pytest.raises(BadSampleError, match=r"train.tar: must be a whole, .* cannot be read aft"):
        index_shard(shard, FORM)


def test_refuses_a_shard_that_breaks_off_between_members(shard: Path) -> None:
    with tarfile.open(shard) as opened:
        *_, last = opened
    shard.write_bytes(shard.read_bytes()[: last.offset])
    with pytest.raises(BadSampleError, match=r"cannot be read after .*: it has no end mark"):
        index_shard(shard, FORM)


def test_refuses_a_compressed_shard(shard: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar.gz", "w:gz") as packed:
        packed.add(shard, "x.png")
    with pytest.raises(BadSampleError, match="read compressed shards by ResampledWebDataset"):
        index_shard(tmp_path / "train.tar.gz", FORM)


def test_refuses_two_members_of_one_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for name in ("a.png", "a.PNG"):
            shard.addfile(tarfile.TarInfo(name))
    with pytest.raises(BadSampleError, match="x.tar: the sample a must have one .PNG, got two"):
        index_shard(tmp_path / "x.tar", FORM)
