"""The contracts of sources of pictures: with labels, and with captions."""

from abc import ABC, abstractmethod
from typing import Literal

from PIL import Image

from lit_vlm.configurable import Configurable
from lit_vlm.data.skipping import check_skipping


class PictureSource(Configurable, ABC):
    """A list of pictures, read one at a time.

    Args:
        on_bad_image: ``error`` stops at a picture that cannot be read; ``skip`` puts another in
            its place in training, leaves it out otherwise, and says which.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        ValueError: if an argument is not one of those.
    """

    def __init__(
        self, on_bad_image: Literal["error", "skip"] = "error", max_skipped: int = 100
    ) -> None:
        check_skipping(self, "on_bad_image", on_bad_image, max_skipped)
        self.on_bad_image = on_bad_image
        self.max_skipped = max_skipped

    @abstractmethod
    def prepare(self) -> None:
        """Index the data; called once, before anything else, in the main process.

        Raises:
            OSError: if a file is missing.
            BadSampleError: if a file cannot be indexed.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pictures."""

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """Read a picture as RGB; raise ``BadSampleError`` if it cannot be used."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return what a message calls a picture: its file, or its place."""

    def identity(self, index: int) -> str:
        """Return what tells a picture from others, in whatever list of them it is.

        A share that is held out depends on it alone: a picture that is listed twice, or by two
        sources, must have one identity.
        """
        return self.name(index)


class LabelledSource(PictureSource, ABC):
    """Pictures that belong to a class each."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The classes' names, in the order of their numbers; known after ``prepare``."""

    @abstractmethod
    def label(self, index: int) -> int:
        """Return the number of a picture's class; -1 for none."""


class PairSource(PictureSource, ABC):
    """Pictures with one caption or several each."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """Return a picture's captions, at least one."""
