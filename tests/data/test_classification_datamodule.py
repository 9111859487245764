import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import (
    ImageClassificationDataModule,
    ImageFolder,
    LabelledCSV,
    RandomResizedCrop,
)
from lit_vlm.data.picture_batches import PicturePlaces
from lit_vlm.data.stage_batches import StagedPass
from lit_vlm.stages import Stage

Numbered = Callable[..., Path]


def module(train: Any, **options: Any) -> ImageClassificationDataModule:
    data = ImageClassificationDataModule(train, **{"batch_size": 4, **options})
    data.image_size, data.fill, data.resize = (4, 6), (1, 2, 3), "pad"
    return data


def numbers(batch: Any) -> list[int]:
    """The numbers that the pictures of a batch tell."""
    return (batch.images[:, 0, 1, 1] // 10).tolist()


def equal(one: Any, other: Any) -> bool:
    names = ("images", "labels", "index")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12
def test_worker_processes_change_nothing(numbered: Numbered) -> None:
    source = ImageFolder(numbered(10))
    epochs = []
    for workers in (0, 2):
        data = module(source, augment=RandomResizedCrop(color_jitter=0.5), num_workers=workers)
        data.setup("fit")
        loader = data.train_dataloader()
        epochs.append([list(loader), list(loader)])
    for alone, shared in zip(*epochs, strict=True):
        assert len(alone) == len(shared) == 2
        assert all(equal(one, other) for one, other in zip(alone, shared, strict=True))
    first, second = ([batch.index.tolist() for batch in epoch] for epoch in epochs[0])
    assert first != second


def test_views_change_with_the_epoch_and_evaluation_has_none(numbered: Numbered) -> None:
    root = numbered(2)
    for path in root.glob("*/*.png"):
        Image.linear_gradient("L").convert("RGB").resize((6, 4)).save(path)
    data = module(ImageFolder(root), test=ImageFolder(root), augment=RandomResizedCrop())
    data.drop_last = False
    loader = data.train_dataloader()
    views = [torch.cat([batch.images for batch in loader]) for _ in range(2)]
    assert not torch.equal(views[0].sort(0).values, views[1].sort(0).values)
    (whole,) = data.test_dataloader()
    assert torch.equal(whole.images[0], whole.images[1])
    assert torch.equal(whole.images, next(iter(data.labelled_loader("train"))).images)


def test_one_rank_and_two_see_the_same_pictures(reading: ModuleType, numbered: Numbered) -> None:
    source = ImageFolder(numbered(17))

    def epochs(batch_size: int, rank: int, world_size: int) -> list[Any]:
        data = reading.on_rank(
            module(source, batch_size=batch_size, augment=RandomResizedCrop()), rank, world_size
        )
        loader = data.train_dataloader()
        return [*loader, *loader]

    one, *two = epochs(8, 0, 1), epochs(4, 0, 2), epochs(4, 1, 2)
    assert len(one) == 4
    for whole, *halves in zip(one, *two, strict=True):
        for name in ("images", "labels", "index"):
            joined = torch.cat([getattr(half, name) for half in halves])
            assert torch.equal(getattr(whole, name), joined)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_each_picture_comes_once_over_all_ranks_in_order(
    reading: ModuleType, numbered: Numbered, world_size: int
) -> None:
    source = ImageFolder(numbered(7))
    seen: list[int] = []
    for rank in range(world_size):
        data = reading.on_rank(module(source, eval_batch_size=2), rank, world_size)
        for batch in data.labelled_loader("train"):
            seen += batch.index.tolist()
            assert batch.labels.tolist() == [number % 2 for number in numbers(batch)]
    assert seen == list(range(7))


def test_ranks_evaluate_batches_of_one_size(reading: ModuleType, numbered: Numbered) -> None:
    source = ImageFolder(numbered(5))
    by_rank = []
    for rank in range(2):
        data = reading.on_rank(module(None, val=source, eval_batch_size=2), rank, 2)
        by_rank.append([batch.index.tolist() for batch in data.val_dataloader()])
    assert by_rank == [[[0, 1], [4]], [[2, 3], [4]]]


@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4])
def test_a_resumed_run_reads_what_was_left(
    reading: ModuleType, numbered: Numbered, tmp_path: Path, stopped_at: int
) -> None:
    def data() -> ImageClassificationDataModule:
        source = ImageFolder(numbered(13))
        return ImageClassificationDataModule(source, batch_size=4, augment=RandomResizedCrop())

    whole = reading.ReadingModel(stopped_at, tmp_path / "stopped.ckpt")
    reading.fit(whole, data(), tmp_path)
    rest = reading.ReadingModel()
    reading.fit(rest, data(), tmp_path, tmp_path / "stopped.ckpt")
    assert len(whole.read) == 9
    assert len(rest.read) == 9 - stopped_at
    left = whole.read[stopped_at:]
    assert all(equal(one, other) for one, other in zip(left, rest.read, strict=True))


def test_a_share_of_the_training_pictures_is_held_out(
    reading: ModuleType, numbered: Numbered, tmp_path: Path
) -> None:
    model = reading.ReadingModel()
    source = ImageFolder(numbered(10))
    data = ImageClassificationDataModule(source, val=0.2, batch_size=10, drop_last=False)
    reading.fit(model, data, tmp_path, max_epochs=1)
    (trained,), (held,) = model.read, model.validated
    assert sorted(numbers(trained) + numbers(held)) == list(range(10))
    assert held.index.tolist() == list(range(len(held)))


def test_a_picture_of_several_rows_is_on_one_side(numbered: Numbered) -> None:
    root = numbered(12)
    written = [f"{start}{n:02}.png" for start in ("a/", "./a/", "b/../a/") for n in range(0, 12, 2)]
    rows = [f"{path},{'ab'[place % 2]}" for place, path in enumerate(written)]
    (root / "rows.csv").write_text("\n".join(["image,label", *rows]))
    for seed in range(5):
        data = module(LabelledCSV(root / "rows.csv"), val=0.4, seed=seed, batch_size=18)
        data.drop_last = False
        ((trained,), (held,)) = data.train_dataloader(), data.labelled_loader("val")
        assert set(numbers(trained)).isdisjoint(numbers(held))
        assert sorted(numbers(trained) + numbers(held)) == sorted([*range(0, 12, 2)] * 3)


def test_a_checkpoint_of_other_folders_holds_the_same_out(
    numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = numbered(10)
    monkeypatch.chdir(root.parent)
    for seed in range(5):
        near, far = (module(ImageFolder(r), val=0.3, seed=seed) for r in (root.name, root))
        held = [[*loader] for loader in (near.val_dataloader(), far.val_dataloader())]
        assert [numbers(batch) for batch in held[0]] == [numbers(batch) for batch in held[1]]


def test_several_sources_are_one(numbered: Numbered) -> None:
    one, other = ImageFolder(numbered(4)), ImageFolder(numbered(4, "more", begin=4))
    data = module({"one": one, "other": other})
    data.setup("fit")
    assert sorted(n for batch in data.train_dataloader() for n in numbers(batch)) == list(range(8))
    assert data.classes == ("a", "b")
    stage = Stage(trains=["encoder"], batch_size=2, data=["other"])
    assert data.batches_per_pass(stage) == 2
    chosen = data.training_loader(StagedPass("it", stage, epoch=0, begin=0, end=2, first=0))
    assert sorted(n for batch in chosen for n in numbers(batch)) == [4, 5, 6, 7]


def test_classes_have_the_numbers_of_training(numbered: Numbered) -> None:
    root = numbered(4)
    data = module(ImageFolder(root), test=ImageFolder(root, classes=["b", "a"]))
    data.setup("fit")
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert numbers(batch) == [1, 3, 0, 2]
    assert batch.labels.tolist() == [1, 1, 0, 0]


def test_names_classes_that_two_splits_do_not_share(numbered: Numbered) -> None:
    root, other = numbered(4), numbered(2, "other")
    (other / "a").rename(other / "c")
    data = module(ImageFolder(root), val=ImageFolder(other))
    with pytest.raises(ValueError, match="val and train .* only in val: c; only in train: a"):
        data.setup("fit")


def test_a_message_names_the_split_as_configs_do(numbered: Numbered) -> None:
    root, other = numbered(4), numbered(2, "other")
    (other / "a").rename(other / "c")
    data = module(ImageFolder(root), test=ImageFolder(other))
    with pytest.raises(ValueError, match="Module: test and train must have the same classes"):
        data.setup(TrainerFn.TESTING)


def test_one_class_is_too_few_for_a_model_that_tells_classes_apart(
    reading: ModuleType, numbered: Numbered
) -> None:
    root = numbered(4)
    shutil.rmtree(root / "b")
    data = reading.on_rank(module(ImageFolder(root)), 0, 1)
    with pytest.raises(ValueError, match=r"at least two classes, got one \(a\)\. Add pictures"):
        data.setup("fit")
    data.model.training_views = Halves()
    data.setup("fit")
    assert data.classes == ("a",)


def test_without_training_data_the_classes_are_those_of_the_test(numbered: Numbered) -> None:
    data = module(None, test=ImageFolder(numbered(4), classes=["b", "a"]))
    data.setup("test")
    assert data.classes == ("b", "a")


def test_bad_pictures_are_replaced_in_training_and_left_out_otherwise(
    reading: ModuleType, numbered: Numbered, tmp_path: Path
) -> None:
    root = numbered(6)
    (root / "a" / "02.png").write_bytes(b"x")
    source = ImageFolder(root, on_bad_image="skip")
    data = reading.on_rank(
        module(source, val=ImageFolder(root, on_bad_image="skip")), 0, 1, tmp_path
    )
    data.drop_last = False
    trained = [n for batch in data.train_dataloader() for n in numbers(batch)]
    assert sorted(trained) == [0, 1, 3, 4, 4, 5]
    places = [i for batch in data.val_dataloader() for i in batch.index.tolist()]
    assert sorted(set(places)) == [0, 2, 3, 4, 5]
    assert [b.index.tolist() for b in data.labelled_loader("train")] == [[0, 2, 3], [4, 5]]
    line = json.loads((tmp_path / "skipped-train.jsonl").read_text())
    assert line["sample"] == 1
    assert "02.png cannot be read" in line["reason"]
    assert (tmp_path / "skipped-val.jsonl").exists()
    with pytest.warns(UserWarning, match="1 pictures could not be read") as told:
        data.teardown("fit")
    assert ["skipped-val.jsonl" in str(warning.message) for warning in told] == [False, True]


def test_stops_above_the_ceiling(reading: ModuleType, numbered: Numbered, tmp_path: Path) -> None:
    root = numbered(4)
    for path in root.glob("a/*"):
        path.write_bytes(b"x")
    source = ImageFolder(root, on_bad_image="skip", max_skipped=1)
    data = reading.on_rank(module(source), 0, 1, tmp_path)
    with pytest.raises(BadSampleError, match=r"more than max_skipped=1 .*skipped-train\.jsonl"):
        list(data.train_dataloader())


class Halves:
    """Crops of one colour each, which tell the seed."""

    def crops(self, picture: Image.Image, size: tuple[int, int], seed: int) -> Any:
        large = torch.full((2, 3, *size), seed % 251, dtype=torch.uint8)
        return large, torch.zeros((5, 3, 2, 2), dtype=torch.uint8)


def test_models_that_want_crops_get_them_in_training_only(
    reading: ModuleType, numbered: Numbered
) -> None:
    source = ImageFolder(numbered(6))
    data = reading.on_rank(module(source, val=source), 0, 1)
    data.model.training_views = Halves()
    loader = data.train_dataloader()
    (one,), (other,) = list(loader), list(loader)
    assert one.global_crops.shape == (2, 4, 3, 4, 6)
    assert one.local_crops.shape == (5, 4, 3, 2, 2)
    assert one.global_crops.unique().numel() == 4
    assert not torch.equal(one.global_crops, other.global_crops)
    assert next(iter(data.val_dataloader())).images.shape == (4, 3, 4, 6)
    data.augment = RandomResizedCrop()
    with pytest.raises(ValueError, match="augment must be null where the model cuts its own crops"):
        data.train_dataloader()


def test_the_model_says_how_pictures_come_to_it(reading: ModuleType, numbered: Numbered) -> None:
    data = reading.on_rank(
        ImageClassificationDataModule(ImageFolder(numbered(2)), batch_size=2), 0, 1
    )
    data.model.image_size = (8, 6)
    (batch,) = data.train_dataloader()
    assert batch.images[0, :, 0, 0].tolist() == [1, 2, 3]


def test_its_data_set_can_be_sent_to_processes_that_are_not_forked(
    reading: ModuleType, numbered: Numbered
) -> None:
    data = reading.on_rank(module(ImageFolder(numbered(4)), augment=RandomResizedCrop()), 0, 1)
    (batch,) = data.train_dataloader()
    dataset = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    places = PicturePlaces(tuple(batch.index.tolist()), epoch=0)
    assert equal(dataset[places], batch)


def test_says_what_is_missing(numbered: Numbered) -> None:
    data = ImageClassificationDataModule(ImageFolder(numbered(64)))
    with pytest.raises(ValueError, match=r"test must have a source, got none. Give --data\.test"):
        data.test_dataloader()
    with pytest.raises(
        ValueError, match=r"how large pictures must be .*got no trainer\. Set datam"
    ):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"val": 1.0}, "val must be a source, or a share .* got 1.0"),
        ({"val": 0}, "val must be a source, or a share .* got 0"),
        ({"val": 0.2}, "val must be a source where train is none, got the share 0.2 of no pict"),
    ],
)
def test_refuses_what_is_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageClassificationDataModule(None, **options)
