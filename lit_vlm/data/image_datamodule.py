"""Pictures without texts, to be looked at one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int, UInt8
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_vlm.configurable import Configurable
from lit_vlm.conversation import BadSampleError
from lit_vlm.images import Resize, fit_image, read_image


@dataclass(slots=True)  # not frozen: Lightning's precisions take batches apart
class ImageBatch:
    """Some pictures of a data set.

    Attributes:
        images: the pictures, at the encoder's size.
        index: place of each in the data set.
        skipped: for each picture that could not be read, its place and why.
    """

    images: UInt8[Tensor, "B 3 H W"]
    index: Int[Tensor, "B"]
    skipped: tuple[tuple[int, str], ...] = ()

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """Return the batch with its images on a device; the arguments are ``Tensor.to``'s."""
        return replace(self, images=self.images.to(*args, **kwargs))

    def pin_memory(self) -> "ImageBatch":
        """Return the batch in page-locked memory, for fast copies to a GPU."""
        return replace(self, images=self.images.pin_memory())


class ImageDataModule(Configurable, LightningDataModule):
    """Feed pictures to a vision encoder, at the size that the trainer's encoder works at.

    Args:
        images: a folder, which is searched with all folders in it, or a picture, or several of
            either; folders are read in alphabetical order.
        batch_size: pictures of a batch on one rank.
        num_workers: processes that read and decode beside the predicting process, per rank.
        resize: how a picture of another shape is brought to the encoder's size: ``pad`` (all of
            it, the rest filled with the encoder's mean colour), ``crop`` or ``stretch``.
        on_bad_image: ``error`` stops at a picture that cannot be read; ``skip`` leaves it out, and
            says which.

    Raises:
        ValueError: if ``batch_size`` is less than 1, or, on ``setup``, there is no picture.
        FileNotFoundError: on ``setup``, if a path does not exist.
    """

    def __init__(
        self,
        images: str | Path | list[str],
        batch_size: int = 32,
        num_workers: int = 0,
        resize: Resize = "pad",
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"ImageDataModule: batch_size must be at least 1, got {batch_size}.")
        self.images = [Path(p) for p in images] if isinstance(images, list) else [Path(images)]
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.resize: Resize = resize
        self.on_bad_image = on_bad_image
        self.paths: list[Path] = []

    def setup(self, stage: str) -> None:
        """Find the pictures."""
        found, others = find_images(self.images)
        if not found:
            named = ", ".join(map(str, self.images))
            raise ValueError(f"ImageDataModule: images must hold pictures, got none in {named}.")
        if others:
            rank_zero_warn(
                f"ImageDataModule: {len(others)} files in the folders are no pictures by their "
                f"names and are left out, the first of them {others[0]}."
            )
        self.paths = found

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the pictures in order."""
        trainer = self.trainer
        encoder: Any = trainer.lightning_module if trainer is not None else None
        if encoder is None:
            raise ValueError(
                "ImageDataModule: must have a trainer, whose encoder says how large the pictures "
                "must be, got none. Read pictures by lit_vlm.images without one."
            )
        dataset = ImageDataset(
            self.paths, encoder.image_size, self.resize, encoder.fill, self.on_bad_image == "skip"
        )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_images,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )


class ImageDataset(Dataset[tuple[int, Tensor | str]]):
    """Read pictures at one size: each with its place, or why it could not be read.

    Args:
        paths: the files.
        size: height and width, in pixels.
        resize: how a picture of another shape is brought there.
        fill: colour of padding.
        skip: return the reason for a bad picture instead of raising it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        resize: Resize,
        fill: tuple[int, int, int],
        skip: bool,
    ) -> None:
        self.paths = paths
        self.size = size
        self.resize: Resize = resize
        self.fill = fill
        self.skip = skip

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        """Return the place of a picture and its pixels (3, H, W), or the reason for none."""
        try:
            picture = read_image(self.paths[index])
        except ValueError as error:
            if self.skip:
                return index, str(error)
            raise BadSampleError(
                f"{error}. Remove it, or pass it over by --data.on_bad_image skip."
            ) from error
        return index, fit_image(picture, self.size, self.resize, self.fill)


def collate_images(rows: Sequence[tuple[int, Tensor | str]]) -> ImageBatch:
    """Stack the pictures that could be read."""
    read = [(index, item) for index, item in rows if isinstance(item, Tensor)]
    bad = tuple((index, item) for index, item in rows if isinstance(item, str))
    images = [image for _, image in read] or [torch.zeros(3, 1, 1, dtype=torch.uint8)]
    places = torch.tensor([index for index, _ in read], dtype=torch.long)
    return ImageBatch(torch.stack(images)[: len(read)], places, bad)


def find_images(places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the pictures in folders, and the other files there; a file given counts as a picture.

    Raises:
        FileNotFoundError: if a path does not exist.
    """
    found: list[Path] = []
    others: list[Path] = []
    for place in places:
        if place.is_file():
            found.append(place)
        elif not place.is_dir():
            raise FileNotFoundError(
                f"images must be a folder or a picture, got {place}: not there."
            )
        else:
            files = sorted(path for path in place.rglob("*") if path.is_file())
            seen = [path for path in files if not path.name.startswith(".")]
            found += [path for path in seen if path.suffix.lower() in _suffixes()]
            others += [path for path in seen if path.suffix.lower() not in _suffixes()]
    return found, others


@cache
def _suffixes() -> frozenset[str]:
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, form in known.items() if form in Image.OPEN) - {".pdf"}
