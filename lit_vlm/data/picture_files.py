"""Sources whose pictures are files."""

import os
from abc import ABC

from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_sources import PictureSource
from lit_vlm.images import read_image


class PictureFiles(PictureSource, ABC):
    """A list of files; ``prepare`` sets ``paths``."""

    paths: PackedTexts = PackedTexts()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def picture(self, index: int) -> Image.Image:
        """Read a picture as RGB."""
        try:
            return read_image(self.paths[index])
        except ValueError as error:
            raise BadSampleError(
                f"{type(self).__name__}: {error}. {self.remedy(index)} or pass such pictures over "
                f"by on_bad_image: skip."
            ) from error

    def name(self, index: int) -> str:
        """Return a picture's file."""
        return self.paths[index]

    def identity(self, index: int) -> str:
        """Return a picture's file, named in full in one way: as ``x.png``, never ``./x.png``."""
        return os.path.abspath(self.paths[index])

    def remedy(self, index: int) -> str:
        """Return what can be done about a picture that cannot be read."""
        return "Mend or remove it,"
