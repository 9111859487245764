"""Pictures in a folder, each with its captions in a text file beside it."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.image_datamodule import find_images
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_files import PictureFiles
from lit_vlm.data.picture_sources import PairSource


class SidecarCaptions(PictureFiles, PairSource):
    """Read pictures that have a text file beside them: ``dog.png`` and ``dog.txt``.

    Each line of the text is a caption; empty lines are passed over.

    Args:
        folder: is searched with all folders in it, in alphabetical order.
        ending: that of the text files.
        max_captions: most captions to take of a text, from its beginning; None for all.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        ValueError: if ``max_captions`` is less than 1.
        FileNotFoundError: on ``prepare``, if there is no such folder.
        BadSampleError: on ``prepare``, if there are no pictures, or one has no caption.
    """

    def __init__(
        self,
        folder: str | Path,
        ending: str = ".txt",
        max_captions: int | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        if max_captions is not None and max_captions < 1:
            raise ValueError(
                f"SidecarCaptions: max_captions must be at least 1 or null, got {max_captions}."
            )
        self.folder = Path(folder)
        self.ending = ending
        self.max_captions = max_captions
        self._captions = PackedTexts()

    def rebuild_config(self) -> dict[str, Any]:
        """Name the folder in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        record["init_args"]["folder"] = str(self.folder.absolute())
        return record

    def prepare(self) -> None:
        """Find the pictures and read their captions."""
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"SidecarCaptions: folder must be a folder, got {self.folder}, which is none."
            )
        found, others = find_images([self.folder])
        if not found:
            raise BadSampleError(
                f"SidecarCaptions: folder must hold pictures, got none in {self.folder}."
            )
        texts = {path: path.with_suffix(self.ending) for path in found}
        bare = [path for path, text in texts.items() if not text.is_file()]
        if bare:
            raise BadSampleError(
                f"SidecarCaptions: every picture must have a text beside it, got none for "
                f"{len(bare)} of {len(found)} in {self.folder}, the first of them {bare[0]}. Write "
                f"{texts[bare[0]].name}, or move them away."
            )
        spare = set(others) - set(texts.values())
        if spare:
            rank_zero_warn(
                f"SidecarCaptions: {len(spare)} files in {self.folder} are neither pictures nor "
                f"their captions and are left out, the first of them {min(spare)}."
            )
        self.paths = PackedTexts(map(str, found))
        self._captions = PackedTexts("\n".join(self._read(text)) for text in texts.values())

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the lines of the text beside a picture."""
        return tuple(self._captions[index].split("\n"))

    def _read(self, path: Path) -> list[str]:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise BadSampleError(
                f"{path}: must be UTF-8, got the byte {error.object[error.start]:#04x}. Convert "
                f"the file."
            ) from error
        captions = [line.strip() for line in lines if line.strip()]
        if not captions:
            raise BadSampleError(f"{path}: must hold a caption, got an empty text.")
        return captions[: self.max_captions]
