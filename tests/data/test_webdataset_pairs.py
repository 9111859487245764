import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.shard_reading import read_shard
from lit_vlm.data.webdataset_pairs import WebDatasetPairs

WriteShard = Callable[..., Path]
Png = Callable[[int], bytes]


def test_lists_the_samples_of_all_shards_in_order(three_shards: str) -> None:
    source = WebDatasetPairs(three_shards)
    source.prepare()
    assert len(source) == 24
    shades = [source.picture(place).getpixel((0, 0)) for place in range(24)]
    assert shades == [(place, place, place) for place in range(24)]
    assert [source.captions(place) for place in range(24)] == [
        (f"picture {place}",) for place in range(24)
    ]
    assert source.name(5) == three_shards.replace("{00..02}", "01") + ": 0000"
    assert source.name(15) == three_shards.replace("{00..02}", "01") + ": 0010"


def test_reads_what_the_library_reads(three_shards: str) -> None:
    source = WebDatasetPairs(three_shards)
    source.prepare()
    shards = [three_shards.replace("{00..02}", number) for number in ("00", "01", "02")]
    samples = [sample for shard in shards for sample in read_shard(shard)]
    assert [sample["txt"].decode() for sample in samples] == [
        source.captions(place)[0] for place in range(24)
    ]


def test_takes_several_captions_of_a_json_list(write_shard: WriteShard, png: Png) -> None:
    record = json.dumps({"texts": ["one", "two"]})
    shard = write_shard("x.tar", {"a": {"png": png(0), "json": record, "txt": "other"}})
    source = WebDatasetPairs(str(shard), caption_endings=["json"], caption_field="texts")
    source.prepare()
    assert source.captions(0) == ("one", "two")


@pytest.fixture
def faulty(write_shard: WriteShard, png: Png) -> str:
    samples = {
        "good": {"png": png(1), "txt": "good"},
        "mute": {"png": png(2)},
        "blind": {"txt": "blind"},
        "broken": {"png": png(3)[:20], "txt": "broken"},
        "empty": {"png": png(4), "txt": " "},
    }
    return str(write_shard("x.tar", samples))


def test_stops_at_a_sample_without_a_caption(faulty: str) -> None:
    with pytest.raises(BadSampleError, match=r"x.tar: mute: must have captions .* 2 such samples"):
        WebDatasetPairs(faulty).prepare()


def test_passes_over_samples_that_lack_something_and_counts_them(faulty: str) -> None:
    source = WebDatasetPairs(faulty, on_bad_image="skip")
    with pytest.warns(UserWarning, match="2 samples are left out, the first of them .*: mute:"):
        source.prepare()
    assert [source.name(place).rpartition(" ")[2] for place in range(3)] == [
        "good",
        "broken",
        "empty",
    ]
    with pytest.raises(BadSampleError, match=r"x.tar: broken: the picture cannot be read"):
        source.picture(1)
    with pytest.raises(BadSampleError, match=r"x.tar: empty: .txt must hold a caption, got none"):
        source.captions(2)
    few = WebDatasetPairs(faulty, on_bad_image="skip", max_skipped=1)
    with pytest.raises(BadSampleError, match="2 such samples"):
        few.prepare()


def test_says_that_a_shard_has_changed_under_way(three_shards: str) -> None:
    source = WebDatasetPairs(three_shards)
    source.prepare()
    Path(three_shards.replace("{00..02}", "02")).write_bytes(b"short")
    assert source.captions(3) == ("picture 3",)
    with pytest.raises(BadSampleError, match="train-02.tar: 0000: .* got a shard that has changed"):
        source.captions(16)


def test_refuses_what_is_far_away_or_missing_or_empty(
    tmp_path: Path, write_shard: WriteShard
) -> None:
    with pytest.raises(ValueError, match="shards must be files on disk, got https://there/x.tar"):
        WebDatasetPairs(["https://there/x.tar"])
    with pytest.raises(FileNotFoundError, match="each of the 2 shards must be there"):
        WebDatasetPairs(f"{tmp_path}/{{0..1}}.tar").prepare()
    empty = WebDatasetPairs(str(write_shard("empty.tar", {})))
    with pytest.raises(BadSampleError, match="the shards must hold samples, got none"):
        empty.prepare()


def test_is_rebuilt_with_whole_paths(
    three_shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = WebDatasetPairs("train-{00..02}.tar", index_folder="index")
    arguments = source.rebuild_config()["init_args"]
    assert arguments["shards"] == [three_shards]
    assert arguments["index_folder"] == str(tmp_path / "index")
    source.prepare()
    assert len(list((tmp_path / "index").iterdir())) == 3
    again = WebDatasetPairs(**arguments)
    again.prepare()
    assert again.captions(20) == source.captions(20) == ("picture 20",)
