"""Data sets of torchvision."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torchvision
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.class_numbers import check_class_names
from lit_vlm.data.picture_sources import LabelledSource
from lit_vlm.images import read_image

_COMPARED = 8
"""Items, from the first to the last, whose labels are compared with the data set's list."""


class TorchvisionData(LabelledSource):
    """Read any labelled data set of torchvision, or one that is made like those.

    Nothing is downloaded.

    Args:
        dataset: its class: ``CIFAR10``, or ``my_project.MyData``.
        arguments: the class's arguments: ``{root: data, train: true}``.
        classes: names of the classes, in the order of their numbers; None for the data set's own.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        ValueError: if there is no such class, or ``arguments`` ask for a download.
        OSError: on ``prepare``, if the data set is not there.

    Example:
        >>> source = TorchvisionData("FakeData", {"size": 2, "image_size": [3, 8, 8]}, ["a", "b"])
    """

    def __init__(
        self,
        dataset: str,
        arguments: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        self.dataset = dataset
        self.arguments = dict(arguments or {})
        if self.arguments.get("download"):
            raise ValueError(
                f"TorchvisionData: {dataset} must be on disk already, got download: true. Download "
                f"it once with torchvision."
            )
        self.given_classes = check_class_names("TorchvisionData", classes)
        self._made_by = _class_named(dataset)
        self._data: Any = None
        self._targets: Any = None
        self._last: tuple[int, Any] | None = None

    def rebuild_config(self) -> dict[str, Any]:
        """Name the data set's folder in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        arguments = record["init_args"]["arguments"]
        if arguments and "root" in arguments:
            arguments["root"] = os.path.abspath(arguments["root"])
        return record

    def prepare(self) -> None:
        """Open the data set."""
        try:
            self._data = self._made_by(**self.arguments)
        except TypeError as error:
            raise ValueError(
                f"TorchvisionData: arguments must be those of {self.dataset}, got "
                f"{self.arguments} ({error})."
            ) from error
        except (RuntimeError, OSError) as error:
            raise OSError(
                f"TorchvisionData: {self.dataset} must be on disk, at what arguments say "
                f"({self.arguments}); got: {error}"
            ) from error
        if not len(self):
            raise BadSampleError(f"TorchvisionData: {self.dataset} must hold pictures, got none.")
        if self.given_classes is None and not hasattr(self._data, "classes"):
            raise ValueError(
                f"TorchvisionData: the classes of {self.dataset} must have names, but it has none. "
                f"Give classes: [...]."
            )
        self._targets = self._known_labels()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._data)

    @property
    def classes(self) -> tuple[str, ...]:
        """The data set's classes; synonyms are joined by commas."""
        names: Any = self.given_classes or getattr(self._data, "classes", ())
        return tuple(name if isinstance(name, str) else ", ".join(name) for name in names)

    def picture(self, index: int) -> Image.Image:
        """Return a picture as RGB."""
        picture = self._item(index)[0]
        if not isinstance(picture, Image.Image):
            raise BadSampleError(
                f"{self.name(index)}: must be a picture of Pillow, got a "
                f"{type(picture).__name__}. Leave transform out of arguments."
            )
        return read_image(picture)

    def label(self, index: int) -> int:
        """Return the number of a picture's class."""
        label = self._item(index)[1] if self._targets is None else self._targets[index]
        number = _number(label)
        if not 0 <= number < len(self.classes):
            raise BadSampleError(
                f"{self.name(index)}: its label must be the number of one of {len(self.classes)} "
                f"classes, got {label!r}."
            )
        return number

    def name(self, index: int) -> str:
        """Return the picture's place."""
        return f"{self.dataset} picture {index}"

    def _known_labels(self) -> Any:
        """Return the labels that are known without reading a picture, if they are those of items.

        A data set's ``targets`` are not where labels are changed as an item is read.
        """
        targets = getattr(self._data, "targets", None)
        if targets is None or getattr(self._data, "target_transform", None) is not None:
            return None
        compared = 0
        for index in np.linspace(0, len(self) - 1, _COMPARED, dtype=int).tolist():
            try:
                label = self._item(index)[1]
            except BadSampleError:  # is told of when its turn comes
                continue
            if _number(label) != _number(targets[index]):
                return None
            compared += 1
        return targets if compared else None

    def _item(self, index: int) -> Any:
        # Picture and label of an index are asked for one after the other.
        if self._last is None or self._last[0] != index:
            try:
                self._last = index, self._data[index]
            except (OSError, SyntaxError, ValueError) as error:
                raise BadSampleError(
                    f"{self.name(index)} cannot be read: {error}. Pass such pictures over by "
                    f"on_bad_image: skip."
                ) from error
        return self._last[1]


def _number(label: Any) -> int:
    try:
        return int(label)
    except (TypeError, ValueError):
        return -1


def _class_named(dataset: str) -> Any:
    module, _, name = dataset.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "torchvision.datasets"), name)
    except (ImportError, AttributeError) as error:
        known = ", ".join(n for n in torchvision.datasets.__all__ if n[0].isupper())
        raise ValueError(
            f"TorchvisionData: dataset must be a class of torchvision.datasets or a class path, "
            f"got {dataset!r}. torchvision has: {known}."
        ) from error
    return found
