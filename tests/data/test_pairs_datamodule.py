import pickle
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import ImageTextDataModule, PairsFile, PairStream, RandomResizedCrop
from lit_vlm.data.pair_batches import text_id
from lit_vlm.data.pair_stream import MakeBatch, StreamedPair
from lit_vlm.data.picture_batches import PicturePlaces
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.stages import Stage

Numbered = Callable[..., Path]


@pytest.fixture
def make(reading: ModuleType, numbered: Numbered) -> Callable[..., ImageTextDataModule]:
    """Make a data module of some numbered pictures, for use without a trainer."""

    def make(count: int = 10, **options: Any) -> ImageTextDataModule:
        source = PairsFile(numbered(count) / "pairs.csv")
        data = ImageTextDataModule(**{"train": source, "batch_size": 4, **options})
        data.image_size, data.tokenize = (4, 6), reading.tokenize
        return data

    return make


def equal(one: Any, other: Any) -> bool:
    names = ("images", "index", "input_ids", "attention_mask", "caption_index", "text_ids")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_training_shows_one_caption_of_each_picture(
    reading: ModuleType, make: Callable[..., ImageTextDataModule]
) -> None:
    data = make()
    loader = data.train_dataloader()
    shown: set[str] = set()
    for _ in range(12):
        for batch in loader:
            assert batch.images.shape == (4, 3, 4, 6)
            assert torch.equal(batch.index, batch.caption_index)
            texts = reading.read_texts(batch)
            told = (batch.images[:, 0, 1, 1] // 10).tolist()
            assert [int(text.split()[1]) for text in texts] == told == batch.index.tolist()
            assert batch.text_ids.tolist() == [text_id(text) for text in texts]
            shown.update(texts)
    assert {"picture 3 text 0", "picture 3 text 1", "picture 5 text 1"} <= shown
    assert len(shown) == 15
    first = make(captions_in_training="first").train_dataloader()
    texts = [text for _ in range(6) for batch in first for text in reading.read_texts(batch)]
    assert {text[-1] for text in texts} == {"0"}


def test_evaluation_shows_all_captions(
    reading: ModuleType, make: Callable[..., ImageTextDataModule], numbered: Numbered
) -> None:
    data = make(test=PairsFile(numbered(3, "held") / "pairs.csv"), augment=RandomResizedCrop())
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert batch.index.tolist() == [0, 1, 2]
    assert batch.caption_index.tolist() == [0, 1, 1, 2]
    assert batch.input_ids.shape[0] == batch.text_ids.shape[0] == 4
    assert reading.read_texts(batch)[2] == "picture 1 text 1"
    assert torch.equal(batch.images[:, 0, 1, 1], torch.tensor([0, 10, 20], dtype=torch.uint8))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12
def test_worker_processes_change_nothing(make: Callable[..., ImageTextDataModule]) -> None:
    epochs = []
    for workers in (0, 2):
        loader = make(augment=RandomResizedCrop(), num_workers=workers).train_dataloader()
        epochs.append([*loader, *loader])
    assert len(epochs[0]) == 4
    assert all(equal(one, other) for one, other in zip(*epochs, strict=True))


def test_one_rank_and_two_see_the_same_pairs(
    reading: ModuleType, make: Callable[..., ImageTextDataModule]
) -> None:
    def epochs(batch_size: int, rank: int, world_size: int) -> list[Any]:
        loader = reading.on_rank(make(batch_size=batch_size), rank, world_size).train_dataloader()
        return [*loader, *loader]

    one, *two = epochs(8, 0, 1), epochs(4, 0, 2), epochs(4, 1, 2)
    assert len(one) == 2
    for whole, *halves in zip(one, *two, strict=True):
        for name in ("images", "index", "text_ids"):
            joined = torch.cat([getattr(half, name) for half in halves])
            assert torch.equal(getattr(whole, name), joined)


@pytest.mark.parametrize("stopped_at", [1, 2, 3])
def test_a_resumed_run_reads_what_was_left(
    reading: ModuleType,
    make: Callable[..., ImageTextDataModule],
    tmp_path: Path,
    stopped_at: int,
) -> None:
    whole = reading.ReadingModel(stopped_at, tmp_path / "stopped.ckpt")
    reading.fit(whole, make(augment=RandomResizedCrop()), tmp_path)
    rest = reading.ReadingModel()
    reading.fit(rest, make(augment=RandomResizedCrop()), tmp_path, tmp_path / "stopped.ckpt")
    assert len(whole.read) == 6
    left = whole.read[stopped_at:]
    assert all(equal(one, other) for one, other in zip(left, rest.read, strict=True))


def test_models_that_have_the_vectors_are_not_given_pictures(
    reading: ModuleType, make: Callable[..., ImageTextDataModule]
) -> None:
    with_pictures = list(make().train_dataloader())
    data = reading.on_rank(make(), 0, 1)
    data.model.wants_images = False
    for path in Path(data.sources["train"][0].path).parent.glob("a/*.png"):
        path.unlink()
    without = list(data.train_dataloader())
    assert [batch.images.shape for batch in without] == [(0, 3, 4, 6)] * 2
    for one, other in zip(with_pictures, without, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.text_ids, other.text_ids)


@pytest.mark.parametrize("world_size", [1, 3])
def test_pictures_for_vectors_come_once_over_all_ranks(
    reading: ModuleType, make: Callable[..., ImageTextDataModule], world_size: int
) -> None:
    seen = []
    for rank in range(world_size):
        data = reading.on_rank(make(7, augment=RandomResizedCrop()), rank, world_size)
        for batch in data.pictures_loader():
            seen += batch.index.tolist()
            assert (batch.images[:, 0, 1, 1] // 10).tolist() == batch.index.tolist()
    assert seen == list(range(7))


def test_pictures_that_were_left_out_have_the_stand_ins_that_reading_finds(
    reading: ModuleType, make: Callable[..., ImageTextDataModule], tmp_path: Path
) -> None:
    source: PairsFile = make().sources["train"][0]
    (source.path.parent / "b" / "03.png").write_bytes(b"x")
    skipping = PairsFile(source.path, on_bad_image="skip")
    live = ImageTextDataModule(skipping, batch_size=5, drop_last=False)
    reading.on_rank(live, 0, 1, tmp_path)
    found = {i for batch in live.pictures_loader() for i in batch.index.tolist()}
    assert found == set(range(10)) - {3}
    batches = list(live.train_dataloader())
    live.model.wants_images = False
    live.pass_over([3])
    for one, other in zip(batches, live.train_dataloader(), strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.text_ids, other.text_ids)
        assert 3 not in one.index


def test_yields_the_texts_of_training_alone(make: Callable[..., ImageTextDataModule]) -> None:
    assert list(make(2).training_texts()) == [
        "picture 0 text 0",
        "picture 1 text 0",
        "picture 1 text 1",
    ]
    data = make(10, val=0.2)
    kept = {text.split()[1] for text in data.training_texts()}
    held = [batch.images[:, 0, 1, 1] // 10 for batch in data.val_dataloader()]
    assert sorted([*map(int, kept), *torch.cat(held).tolist()]) == list(range(10))


class Wordless(PairsFile):
    """Picture 1 has captions that cannot be used."""

    def captions(self, index: int) -> tuple[str, ...]:
        if index == 1:
            raise BadSampleError("row 1: must have a caption, got none.")
        return super().captions(index)


def test_texts_pass_over_captions_that_cannot_be_used(
    make: Callable[..., ImageTextDataModule],
) -> None:
    path = make(3).sources["train"][0].path
    skipping = ImageTextDataModule(Wordless(path, on_bad_image="skip"))
    assert list(skipping.training_texts()) == ["picture 0 text 0", "picture 2 text 0"]
    with pytest.raises(BadSampleError, match="row 1: must have a caption"):
        list(ImageTextDataModule(Wordless(path)).training_texts())


def test_its_data_set_can_be_sent_to_processes_that_are_not_forked(
    reading: ModuleType, make: Callable[..., ImageTextDataModule]
) -> None:
    data = make(4, augment=RandomResizedCrop())
    data.tokenize = None
    reading.on_rank(data, 0, 1)
    loader = data.train_dataloader()
    (batch,) = loader
    dataset = pickle.loads(pickle.dumps(loader.dataset))
    assert equal(dataset[PicturePlaces(tuple(batch.index.tolist()), epoch=0)], batch)


def test_equal_captions_have_equal_numbers_in_every_process() -> None:
    assert text_id("a fox") == 2403509334363724164  # blake2b of 8 bytes, without its last bit
    assert text_id("a fox") != text_id("a fix")


class Listed(PairStream):
    """A stream of pictures 0 to 6 in two batches of three, in an order that tells the epoch."""

    def __init__(self, bad: list[int] | None = None, on_bad_image: Any = "error") -> None:
        super().__init__(on_bad_image)
        self.bad = bad or []
        self.prepared = 0
        self.asked: list[Any] = []

    def prepare(self) -> None:
        self.prepared += 1

    def texts(self) -> Iterator[str]:
        yield from ("a", "b")

    def loader(
        self,
        make_batch: MakeBatch,
        batch_size: int,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        epoch: int = 0,
        position: int = 0,
    ) -> Any:
        self.asked.append((batch_size, rank, world_size, training, drop_last, epoch, position))
        return _Batches(self, make_batch, epoch, position)


class _Batches:
    def __init__(self, stream: Listed, make_batch: MakeBatch, epoch: int, position: int) -> None:
        self.stream, self.make_batch = stream, make_batch
        self.epoch, self.position = epoch - 1, position

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        self.epoch, position, self.position = self.epoch + 1, self.position, 0
        order = [(i + self.epoch) % 6 for i in range(6)]
        for begin in range(3 * position, 6, 3):
            pairs = [self._pair(index) for index in order[begin : begin + 3]]
            yield self.make_batch(pairs, epoch=self.epoch)

    def _pair(self, index: int) -> StreamedPair:
        file = BytesIO()
        Image.new("RGB", (6, 4), (index * 10, 0, 0)).save(file, "png")
        content = b"x" if index in self.stream.bad else file.getvalue()
        return StreamedPair(index, content, (f"{index} a", f"{index} b"), f"shard: {index}")


def test_a_stream_is_read_and_resumed(reading: ModuleType, tmp_path: Path) -> None:
    stream = Listed()
    whole = reading.ReadingModel(3, tmp_path / "stopped.ckpt")
    data = ImageTextDataModule(stream, val=stream, batch_size=3, augment=RandomResizedCrop())
    reading.fit(whole, data, tmp_path)
    assert stream.prepared == 1
    indices = [batch.index.tolist() for batch in whole.read]
    assert indices == [[0, 1, 2], [3, 4, 5], [1, 2, 3], [4, 5, 0], [2, 3, 4], [5, 0, 1]]
    assert whole.validated[0].caption_index.tolist() == [0, 0, 1, 1, 2, 2]
    rest = reading.ReadingModel()
    again = ImageTextDataModule(Listed(), batch_size=3, augment=RandomResizedCrop())
    reading.fit(rest, again, tmp_path, tmp_path / "stopped.ckpt")
    assert len(rest.read) == 3
    assert all(equal(one, other) for one, other in zip(whole.read[3:], rest.read, strict=True))
    assert list(data.training_texts()) == ["a", "b"]


def test_a_stream_is_asked_for_its_ranks_share(reading: ModuleType) -> None:
    stream = Listed()
    data = reading.on_rank(ImageTextDataModule(stream, batch_size=3, eval_batch_size=5), 1, 2)
    assert len(data.train_dataloader()) == 2
    assert stream.asked[-1] == (3, 1, 2, True, True, 0, 0)
    list(data.pictures_loader())
    assert stream.asked[-1] == (5, 1, 2, False, False, 0, 0)
    stage = Stage(trains=["encoder"], batch_size=2)
    assert data.batches_per_pass(stage) == 2
    part = data.training_loader(StagedPass("it", stage, epoch=2, begin=1, end=2, first=0))
    assert [batch.index.tolist() for batch in part] == [[5, 0, 1]]
    assert stream.asked[-1] == (2, 1, 2, True, True, 2, 1)
    with pytest.raises(ValueError, match=r"got \['x'\] for a stream, which has none"):
        data.batches_per_pass(Stage(trains=["encoder"], data=["x"]))
    with pytest.raises(ValueError, match="got temperature 2 for a stream, which has none"):
        data.batches_per_pass(Stage(trains=["encoder"], temperature=2))
    with pytest.raises(ValueError, match="not pictures and captions, got max_length"):
        data.batches_per_pass(Stage(trains=["encoder"], max_length=9))


def test_bad_pictures_of_a_stream(reading: ModuleType, tmp_path: Path) -> None:
    data = reading.on_rank(ImageTextDataModule(Listed([1]), batch_size=3), 0, 1, tmp_path)
    with pytest.raises(BadSampleError, match="shard: 1: the picture cannot be read.*skip"):
        list(data.train_dataloader())
    data = ImageTextDataModule(Listed([1, 3, 4, 5], "skip"), batch_size=3)
    reading.on_rank(data, 0, 1, tmp_path)
    batches = iter(data.train_dataloader())
    assert next(batches).index.tolist() == [0, 2, 2]
    with pytest.raises(BadSampleError, match="none of the 3 pictures of a batch can be read; .* 5"):
        next(batches)
    assert [batch.index.tolist() for batch in data.pictures_loader()] == [[0, 2]]
    assert '"sample": 1' in (tmp_path / "skipped-train.jsonl").read_text()


def test_pictures_of_a_stream_that_were_left_out_have_the_stand_ins_that_reading_finds(
    reading: ModuleType, tmp_path: Path
) -> None:
    data = ImageTextDataModule(Listed([1, 3], "skip"), batch_size=3)
    reading.on_rank(data, 0, 1, tmp_path)
    live = data.train_dataloader()
    batches = [*live, *live]
    data.model.wants_images = False
    data.pass_over([1, 3])
    known = data.train_dataloader()
    for one, other in zip(batches, [*known, *known], strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.text_ids, other.text_ids)
        assert not {1, 3} & set(other.index.tolist())
        assert other.images.shape == (0, 3, 4, 6)
    data.pass_over(range(3))
    with pytest.raises(BadSampleError, match="none of the 3 pictures of a batch can be read$"):
        next(iter(data.train_dataloader()))


def test_refuses_what_a_stream_cannot_do() -> None:
    with pytest.raises(
        ValueError, match="val must be a source where train is a stream, got .* 0.1"
    ):
        ImageTextDataModule(Listed(), val=0.1)
    with pytest.raises(
        ValueError, match="one stream or several other sources, got 2 with a stream"
    ):
        ImageTextDataModule([PairsFile("x.csv"), Listed()])


def test_asks_how_captions_become_tokens(make: Callable[..., ImageTextDataModule]) -> None:
    data = make()
    data.tokenize = None
    with pytest.raises(ValueError, match=r"\(tokenize\), got no trainer. Set datamodule.tokenize"):
        data.train_dataloader()
