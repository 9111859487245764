"""Pictures in a folder for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.class_numbers import check_class_names
from lit_vlm.data.image_datamodule import find_images
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_files import PictureFiles
from lit_vlm.data.picture_sources import LabelledSource


class ImageFolder(PictureFiles, LabelledSource):
    """Read pictures from folders that are named for their classes: ``root/cat/1.jpg``.

    Args:
        root: the folder that holds a folder for each class, which is searched with all folders in
            it.
        classes: the classes, in the order of their numbers; None for all folders, by name.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        FileNotFoundError: on ``prepare``, if there is no such folder.
        BadSampleError: on ``prepare``, if there is no folder in it or one without pictures.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        self.root = Path(root)
        self.given_classes = check_class_names("ImageFolder", classes)
        self._classes: tuple[str, ...] = ()
        self._labels: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def rebuild_config(self) -> dict[str, Any]:
        """Name the folder in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        record["init_args"]["root"] = str(self.root.absolute())
        return record

    def prepare(self) -> None:
        """Find the pictures of each class, in alphabetical order."""
        self._classes = self.given_classes or self._folders()
        paths: list[str] = []
        labels: list[int] = []
        others: list[Path] = []
        for number, name in enumerate(self._classes):
            found, strange = find_images([self._folder(name)])
            if not found:
                raise BadSampleError(
                    f"ImageFolder: each class must have pictures, got none in "
                    f"{self.root / name}. Remove the folder, or name the others by classes."
                )
            paths += map(str, found)
            labels += [number] * len(found)
            others += strange
        if others:
            rank_zero_warn(
                f"ImageFolder: {len(others)} files in {self.root} are no pictures by their names "
                f"and are left out, the first of them {others[0]}."
            )
        self.paths = PackedTexts(paths)
        self._labels = np.array(labels, dtype=np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        """The folders' names."""
        return self._classes

    def label(self, index: int) -> int:
        """Return the number of a picture's folder."""
        return int(self._labels[index])

    def _folders(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"ImageFolder: root must be a folder, got {self.root}, which is none."
            )
        entries = [entry for entry in self.root.iterdir() if not entry.name.startswith(".")]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
        if not folders:
            raise BadSampleError(
                f"ImageFolder: root must hold a folder for each class, got {len(entries)} files "
                f"and no folder in {self.root}."
            )
        return tuple(folders)

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.is_dir():
            there = ", ".join(self._folders())
            raise FileNotFoundError(
                f"ImageFolder: each of classes must be a folder, got {name!r}, which is none in "
                f"{self.root}; there are: {there}."
            )
        return folder
