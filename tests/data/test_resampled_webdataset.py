import gzip
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.image_batches import PairBatch
from lit_vlm.data.pair_stream import StreamedPair
from lit_vlm.data.resampled_webdataset import ResampledWebDataset

WriteShard = Callable[..., Path]
Png = Callable[[int], bytes]


def make_batch(pairs: Sequence[StreamedPair], epoch: int) -> PairBatch:
    """Make a batch whose only token is the epoch."""
    index = torch.tensor([pair.index for pair in pairs])
    tokens = torch.full((len(pairs), 1), epoch)
    images = torch.zeros((0, 3, 4, 4), dtype=torch.uint8)
    return PairBatch(images, index, tokens, torch.ones_like(tokens), index, index)


def _places(loader: Any) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader]


@pytest.fixture
def stream(three_shards: str) -> ResampledWebDataset:
    stream = ResampledWebDataset(three_shards, epoch_size=30, block_size=7)
    stream.prepare()
    return stream


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumes_anywhere_to_the_batch(stream: ResampledWebDataset, num_workers: int) -> None:
    options: dict[str, Any] = {"num_workers": num_workers, "rank": 1, "world_size": 2, "seed": 3}
    loader = stream.loader(make_batch, 3, **options)
    assert len(loader) == 5
    epochs = [_places(loader) for _ in range(4)]
    assert [len(batches) for batches in epochs] == [5, 5, 5, 5]
    assert {len(batch) for batches in epochs for batch in batches} == {3}
    for epoch, position in ((0, 0), (0, 1), (1, 4), (2, 3), (1, 5)):
        again = stream.loader(make_batch, 3, **options, epoch=epoch, position=position)
        assert _places(again) == epochs[epoch][position:]
        assert _places(again) == epochs[epoch + 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_go_on_where_the_last_one_ended(
    stream: ResampledWebDataset, three_shards: str, num_workers: int
) -> None:
    long = ResampledWebDataset(three_shards, epoch_size=60, block_size=7)
    long.prepare()
    short = stream.loader(make_batch, 6, num_workers)
    halves = [*_places(short), *_places(short)]
    assert halves == _places(long.loader(make_batch, 6, num_workers))


def test_tells_the_batches_which_epoch_it_is(stream: ResampledWebDataset) -> None:
    loader = stream.loader(make_batch, 6, num_workers=1, epoch=4)
    for epoch in (4, 5):
        assert {int(token) for batch in loader for token in batch.input_ids} == {epoch}


def test_ranks_workers_and_seeds_draw_for_themselves(stream: ResampledWebDataset) -> None:
    def drawn(**options: Any) -> list[list[int]]:
        return _places(stream.loader(make_batch, 3, world_size=2, **options))

    one = drawn(rank=0, num_workers=2)
    assert one[::2] != one[1::2]
    others = [drawn(rank=1, num_workers=2), drawn(rank=0, num_workers=2, seed=1), drawn(rank=0)]
    assert one not in others
    assert one == drawn(rank=0, num_workers=2)


def test_draws_all_samples_equally_often_over_epochs(three_shards: str) -> None:
    stream = ResampledWebDataset(three_shards, epoch_size=10, block_size=4)
    stream.prepare()
    loader = stream.loader(make_batch, 10)
    times = Counter(chain.from_iterable(chain.from_iterable(_places(loader) for _ in range(240))))
    assert len(times) == 24
    assert all(60 < number < 145 for number in times.values())  # 100 on average


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_reads_each_sample_once_outside_training(
    stream: ResampledWebDataset, num_workers: int, world_size: int
) -> None:
    ranks = [
        _places(stream.loader(make_batch, 5, num_workers, rank, world_size, training=False))
        for rank in range(world_size)
    ]
    steps = [[*chain.from_iterable(step)] for step in zip(*ranks, strict=True)]
    size = 5 * world_size
    assert steps == [list(range(n, min(n + size, 24))) for n in range(0, 24, size)]
    whole = ranks[0]
    later = stream.loader(make_batch, 5, num_workers, 0, world_size, training=False, position=1)
    assert _places(later) == whole[1:]


def test_repeats_the_last_sample_on_ranks_without_one(stream: ResampledWebDataset) -> None:
    ranks = [_places(stream.loader(make_batch, 7, 0, r, 3, training=False)) for r in range(3)]
    assert [batches[-1] for batches in ranks] == [[21], [22], [23]]
    ranks = [_places(stream.loader(make_batch, 1, 0, r, 5, training=False)) for r in range(5)]
    assert [batches[-1] for batches in ranks] == [[20], [21], [22], [23], [23]]
    ranks = [_places(stream.loader(make_batch, 3, 0, r, 5, training=False)) for r in range(5)]
    assert [batches[-1] for batches in ranks] == [[15, 16], [17, 18], [19, 20], [21, 22], [23, 23]]
    shorter = stream.loader(make_batch, 1, 0, 0, 5, training=False, drop_last=True)
    assert len(shorter) == len(_places(shorter)) == 4


def test_reads_commands_and_compressed_shards(three_shards: str, tmp_path: Path) -> None:
    shards = [three_shards.replace("{00..02}", number) for number in ("00", "01")]
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(Path(shards[1]).read_bytes()))
    stream = ResampledWebDataset(
        [f"pipe:cat {shards[0]}", str(packed)], counts=tmp_path / "counts.json"
    )
    stream.prepare()
    assert len(stream) == 16
    assert list(stream.texts()) == [f"picture {place}" for place in range(16)]
    assert len(_places(stream.loader(make_batch, 4))) == 4


@pytest.fixture
def faulty(write_shard: WriteShard, png: Png) -> str:
    samples = {str(i): {"png": png(i), "txt": "good"} for i in range(4)}
    samples["1"] = {"png": png(1)}
    return str(write_shard("x.tar", samples))


def test_puts_another_in_the_place_of_a_sample_without_caption(faulty: str) -> None:
    stream = ResampledWebDataset(faulty, on_bad_image="skip")
    stream.prepare()
    [batch] = stream.loader(make_batch, 4, training=False)
    assert batch.index.tolist() == [0, 2, 3, 0]
    [skipped] = batch.skipped
    assert (skipped.index, skipped.source) == (1, 0)
    assert skipped.reason.startswith("x.tar: 1: must have captions (.txt, .json), got .png only.")
    for batch in stream.loader(make_batch, 4):
        assert set(batch.index.tolist()) <= {0, 2, 3}
        assert len(batch) == 4
    assert list(stream.texts()) == ["good"] * 3
    with pytest.raises(BadSampleError, match="must hold a usable sample, got none of 1: x.tar: 1"):
        list(stream.loader(make_batch, 1, training=False))


def test_names_the_sample_that_stops_it(faulty: str) -> None:
    stream = ResampledWebDataset(faulty)
    stream.prepare()
    with pytest.raises(BadSampleError, match=r"x.tar: 1: must have captions .* on_bad_image: skip"):
        list(stream.loader(make_batch, 4, training=False))


def test_says_that_a_shard_holds_less_than_was_counted(three_shards: str, tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    counts.write_text('{"train-00.tar": 6}')
    stream = ResampledWebDataset(three_shards.replace("{00..02}", "00"), counts=counts)
    stream.prepare()
    with pytest.raises(BadSampleError, match=r"train-00.tar: must hold 6 samples .* got 5"):
        list(stream.loader(make_batch, 6, training=False))


@pytest.mark.parametrize("name", ["epoch_size", "block_size"])
def test_refuses_sizes_of_nothing(name: str) -> None:
    sizes: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ResampledWebDataset("x.tar", **sizes)


def test_refuses_shards_without_samples_and_batches_that_are_too_large(
    stream: ResampledWebDataset, write_shard: WriteShard
) -> None:
    empty = ResampledWebDataset(str(write_shard("empty.tar", {})))
    with pytest.raises(BadSampleError, match="the shards must hold samples, got none"):
        empty.prepare()
    with pytest.raises(ValueError, match="samples for one batch, got 30 for 1 x 31"):
        stream.loader(make_batch, 31, drop_last=True)


def test_is_rebuilt_with_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = ResampledWebDataset(["x-{0..1}.tar", "pipe:cat y.tar"], counts="counts.json")
    arguments = stream.rebuild_config()["init_args"]
    assert arguments["shards"] == [str(tmp_path / "x-{0..1}.tar"), "pipe:cat y.tar"]
    assert arguments["counts"] == str(tmp_path / "counts.json")
