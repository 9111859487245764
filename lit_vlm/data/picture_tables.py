"""Sources whose pictures are files that a table names."""

from abc import ABC
from pathlib import Path
from typing import Any, Literal

from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_files import PictureFiles


class PictureTable(PictureFiles, ABC):
    """A list of files from a table; ``prepare`` sets ``paths`` and ``places``.

    Args:
        path: a CSV or TSV file whose first line names the columns, or JSON Lines.
        image_root: folder that relative image paths start from; None for the table's own folder.
        image_column: the column of the files.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Attributes:
        places: where in the table each picture is named, for messages.
    """

    places: PackedTexts = PackedTexts()

    def __init__(
        self,
        path: str | Path,
        image_root: str | Path | None,
        image_column: str,
        on_bad_image: Literal["error", "skip"],
        max_skipped: int,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        self.path = Path(path)
        self.image_root = Path(image_root) if image_root is not None else self.path.parent
        self.image_column = image_column

    def rebuild_config(self) -> dict[str, Any]:
        """Name the files in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        absolute = {"path": self.path.absolute(), "image_root": self.image_root.absolute()}
        record["init_args"].update({name: str(path) for name, path in absolute.items()})
        return record

    def remedy(self, index: int) -> str:
        """Return what can be done about a picture that cannot be read."""
        return f"Mend {self.places[index]} or image_root,"
