"""Pictures and captions from a table."""

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_sources import PairSource
from lit_vlm.data.picture_tables import PictureTable
from lit_vlm.data.table_rows import table_rows


class PairsFile(PictureTable, PairSource):
    """Read a table with a column of image files and one or several columns of captions.

    Rows of the same image are one picture with several captions. In JSON Lines a caption may also
    be a list of captions.

    Args:
        path: a CSV or TSV file whose first line names the columns, or JSON Lines.
        image_root: folder that relative image paths start from; None for the table's own folder.
        image_column: the column of the files.
        caption_column: the column of the captions, or several; of several, some may be empty.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        FileNotFoundError: on ``prepare``, if there is no such table.
        BadSampleError: on ``prepare``, if the table cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        image_root: str | Path | None = None,
        image_column: str = "image",
        caption_column: str | Sequence[str] = "caption",
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(path, image_root, image_column, on_bad_image, max_skipped)
        columns = [caption_column] if isinstance(caption_column, str) else list(caption_column)
        self.caption_columns = columns
        if not self.caption_columns:
            raise ValueError("PairsFile: caption_column must name a column, got none.")
        self._captions = PackedTexts()
        self._ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def prepare(self) -> None:
        """Read the table."""
        captions: dict[str, list[str]] = {}
        paths: dict[str, str] = {}
        places: dict[str, str] = {}
        for where, values in table_rows(self.path, [self.image_column, *self.caption_columns]):
            image = values[self.image_column]
            if not isinstance(image, str) or not image.strip():
                raise BadSampleError(
                    f"{where}: {self.image_column} must be a file's name, got {image!r}."
                )
            path = str(self.image_root / image.strip())
            file = os.path.abspath(path)  # one for "x.png" and "y/../x.png"
            captions.setdefault(file, []).extend(self._captions_of(where, values))
            paths.setdefault(file, path)
            places.setdefault(file, where)
        self.paths = PackedTexts(paths.values())
        self.places = PackedTexts(places.values())
        self._captions = PackedTexts(text for texts in captions.values() for text in texts)
        self._ends = np.array(list(accumulate(map(len, captions.values()))), dtype=np.int64)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return a picture's captions, in the table's order."""
        begin = int(self._ends[index - 1]) if index else 0
        return tuple(self._captions[begin : int(self._ends[index])])

    def _captions_of(self, where: str, values: dict[str, Any]) -> Iterator[str]:
        found = 0
        for column in self.caption_columns:
            texts = values[column] if isinstance(values[column], list) else [values[column]]
            for text in texts:
                if isinstance(text, str) and text.strip():
                    found += 1
                    yield text.strip()
                elif len(self.caption_columns) == 1 or text not in ("", None):
                    raise BadSampleError(f"{where}: {column} must be a text, got {text!r}.")
        if not found:
            raise BadSampleError(
                f"{where}: must have a caption in {' or '.join(self.caption_columns)}, got none."
            )
