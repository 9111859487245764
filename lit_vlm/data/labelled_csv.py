"""Pictures and their classes from a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.class_numbers import check_class_names, order_of_names
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_sources import LabelledSource
from lit_vlm.data.picture_tables import PictureTable
from lit_vlm.data.table_rows import table_rows


class LabelledCSV(PictureTable, LabelledSource):
    """Read a table with a column of image files and a column of class names.

    Args:
        path: a CSV or TSV file whose first line names the columns, or JSON Lines.
        image_root: folder that relative image paths start from; None for the table's own folder.
        image_column: the column of the files.
        label_column: the column of the classes.
        classes: the classes, in the order of their numbers; None for those in the table, by name.
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
        label_column: str = "label",
        classes: Sequence[str] | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(path, image_root, image_column, on_bad_image, max_skipped)
        self.label_column = label_column
        self.given_classes = check_class_names("LabelledCSV", classes)
        self._classes: tuple[str, ...] = ()
        self._labels: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def prepare(self) -> None:
        """Read the table."""
        paths: list[str] = []
        names: list[str] = []
        places: list[str] = []
        for where, values in table_rows(self.path, [self.image_column, self.label_column]):
            paths.append(str(self.image_root / self._cell(where, values, self.image_column)))
            names.append(self._cell(where, values, self.label_column))
            places.append(where)
        self._classes = self.given_classes or order_of_names(names)
        numbers = {name: number for number, name in enumerate(self._classes)}
        for where, name in zip(places, names, strict=True):
            if name not in numbers:
                raise BadSampleError(
                    f"{where}: {self.label_column} must be one of classes "
                    f"({', '.join(self._classes)}), got {name!r}."
                )
        self.paths = PackedTexts(paths)
        self.places = PackedTexts(places)
        self._labels = np.array([numbers[name] for name in names], dtype=np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the table, or those given."""
        return self._classes

    def label(self, index: int) -> int:
        """Return the number of a picture's class."""
        return int(self._labels[index])

    def _cell(self, where: str, values: dict[str, Any], column: str) -> str:
        value = values[column]
        if isinstance(value, int) and not isinstance(value, bool):  # a label in JSON Lines
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise BadSampleError(f"{where}: {column} must be a text, got {value!r}.")
        return value.strip()
