from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import ImageDataModule
from lit_vlm.data.image_datamodule import ImageBatch, ImageDataset, collate_images, find_images
from lit_vlm.encoders import TimmEncoder

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in two folders, and a text."""
    (tmp_path / "b").mkdir()
    Image.new("RGB", (8, 4), "red").save(tmp_path / "b" / "red.png")
    Image.new("L", (8, 8), 51).save(tmp_path / "a.JPG")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "c.webp")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    return tmp_path


def dataset(paths: list[Path], skip: bool = False) -> ImageDataset:
    return ImageDataset(paths, (4, 4), "pad", (10, 20, 30), skip)


def test_finds_pictures_in_all_folders_in_order(folder: Path) -> None:
    found, others = find_images([folder])
    assert [str(path.relative_to(folder)) for path in found] == ["a.JPG", "b/red.png", "c.webp"]
    assert [path.name for path in others] == ["notes.txt"]


def test_a_file_that_is_named_is_read_whatever_its_name(folder: Path) -> None:
    assert find_images([folder / "notes.txt", folder / "b"]) == (
        [folder / "notes.txt", folder / "b" / "red.png"],
        [],
    )


def test_names_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be a folder or a picture, got .*/none"):
        find_images([tmp_path / "none"])


def test_pads_with_the_given_colour(folder: Path) -> None:
    index, pixels = dataset([folder / "b" / "red.png"])[0]
    assert index == 0
    assert isinstance(pixels, torch.Tensor)
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert pixels[:, 2, 2].tolist() == [255, 0, 0]


def test_stops_at_a_bad_picture_and_names_it(folder: Path) -> None:
    with pytest.raises(BadSampleError, match=r"notes.txt cannot be read.*--data.on_bad_image skip"):
        dataset([folder / "notes.txt"])[0]


def test_a_skipped_picture_keeps_its_place_free(folder: Path) -> None:
    rows = dataset([folder / "a.JPG", folder / "notes.txt", folder / "c.webp"], skip=True)
    batch = collate_images([rows[i] for i in range(3)])
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.index.tolist() == [0, 2]
    assert [row for row, _ in batch.skipped] == [1]
    assert "notes.txt cannot be read" in batch.skipped[0][1]


def test_a_batch_of_bad_pictures_is_empty() -> None:
    batch = collate_images([(3, "broken")])
    assert batch.images.shape[0] == 0
    assert batch.index.shape == (0,)


def test_moves_images_only() -> None:
    batch = ImageBatch(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.tensor([7]))
    moved = batch.to("meta")
    assert moved.images.device.type == "meta"
    assert moved.index.tolist() == [7]


def test_gives_pictures_at_the_encoders_size(folder: Path) -> None:
    encoder = TimmEncoder("test_resnet", image_size=32, mean=HALF, std=HALF)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module = ImageDataModule([str(folder / "b"), str(folder / "c.webp")], batch_size=2)
    trainer.strategy.connect(encoder)
    module.trainer = trainer
    module.setup("predict")
    batches: list[Any] = list(module.predict_dataloader())
    assert [batch.index.tolist() for batch in batches] == [[0, 1]]
    assert batches[0].images.shape == (2, 3, 32, 32)
    assert batches[0].images[0, :, 0, 0].tolist() == [128, 128, 128]


def test_says_what_it_leaves_out(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 files in the folders are no pictures.*notes\.txt"):
        ImageDataModule(folder).setup("predict")


def test_refuses_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images must hold pictures, got none in"):
        ImageDataModule(tmp_path).setup("predict")


def test_refuses_an_empty_batch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ImageDataModule(tmp_path, batch_size=0)


def test_needs_a_trainer(folder: Path) -> None:
    module = ImageDataModule(folder / "c.webp")
    module.setup("predict")
    with pytest.raises(ValueError, match="must have a trainer, whose encoder says how large"):
        module.predict_dataloader()
