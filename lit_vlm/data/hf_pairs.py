"""Pictures and captions in data sets of Hugging Face that are on disk."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.picture_sources import PairSource
from lit_vlm.data.shard_samples import decode_picture
from lit_vlm.images import read_image

_PART = re.compile(r"(.+)-\d+-of-\d+\.parquet")  # how the hub names the files of a split


class HuggingFacePairs(PairSource):
    """Read a data set that ``datasets`` saved to disk, or Parquet files as the hub keeps them.

    Rows stay on disk and are mapped into memory, which worker processes share. Nothing is
    downloaded.

    Args:
        path: folder that ``save_to_disk`` wrote; or a Parquet file, or a folder of them, which
            are converted once, into the cache of ``datasets``.
        split: the split, where the data has several.
        image_column: the column of the pictures: of the feature ``Image``, or bytes, or paths,
            of which relative ones start from the data's folder.
        caption_column: the column of captions or lists of captions, or several; of several, some
            may be empty.
        on_bad_image: ``error`` or ``skip``.
        max_skipped: most pictures that may be skipped before the run stops.

    Raises:
        ImportError: on ``prepare``, if the package datasets is missing.
        FileNotFoundError: on ``prepare``, if there is no such data.
        ValueError: on ``prepare``, if there is no such split or column, or there are no rows.

    Source:
        Datasets (Lhoest et al., 2021), https://arxiv.org/abs/2109.02846.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        image_column: str = "image",
        caption_column: str | Sequence[str] = "caption",
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        self.path = Path(path)
        self.split = split
        self.image_column = image_column
        columns = [caption_column] if isinstance(caption_column, str) else caption_column
        self.caption_columns = list(columns)
        if not self.caption_columns:
            raise ValueError("HuggingFacePairs: caption_column must name a column, got none.")
        self._pictures: Any = ()
        self._captions: Any = ()

    def rebuild_config(self) -> dict[str, Any]:
        """Name the folder in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        record["init_args"]["path"] = str(self.path.absolute())
        return record

    def prepare(self) -> None:
        """Open the data."""
        datasets = _import_datasets()
        data = self._open(datasets)
        for column in (self.image_column, *self.caption_columns):
            if column not in data.column_names:
                raise ValueError(
                    f"HuggingFacePairs: image_column and caption_column must be columns of "
                    f"{self.path}, got {column!r}. It has: {', '.join(data.column_names)}."
                )
        pictures = data.select_columns([self.image_column])
        # Pictures are decoded by us, as all pictures are here.
        self._pictures = pictures.cast_column(self.image_column, datasets.Image(decode=False))
        self._captions = data.select_columns(self.caption_columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._pictures)

    def picture(self, index: int) -> Image.Image:
        """Read a picture as RGB."""
        held = self._pictures[index][self.image_column] or {}
        if held.get("bytes") is not None:
            return decode_picture(held["bytes"], self.name(index))
        if not held.get("path"):
            raise BadSampleError(f"{self.name(index)}: must have a picture, got none.")
        try:
            return read_image(self._folder() / held["path"])
        except ValueError as error:
            raise BadSampleError(
                f"{self.name(index)}: {error}. Mend it, or pass such pictures over by "
                f"on_bad_image: skip."
            ) from error

    def captions(self, index: int) -> tuple[str, ...]:
        """Return a row's captions."""
        row = self._captions[index]
        found: list[str] = []
        for column in self.caption_columns:
            texts = row[column] if isinstance(row[column], list) else [row[column]]
            if strange := [t for t in texts if not isinstance(t, str) and t is not None]:
                raise BadSampleError(
                    f"{self.name(index)}: {column} must be a text or a list of texts, got "
                    f"{strange[0]!r:.80}."
                )
            found += [text.strip() for text in texts if text and text.strip()]
        if not found:
            raise BadSampleError(
                f"{self.name(index)}: must have a caption in {' or '.join(self.caption_columns)}, "
                f"got none."
            )
        return tuple(found)

    def name(self, index: int) -> str:
        """Return a row's place."""
        split = f" {self.split}" if self.split is not None else ""
        return f"{self.path}{split} row {index}"

    def identity(self, index: int) -> str:
        """Return a row's place, the data named in full; rows are not compared by their pictures."""
        return f"{os.path.abspath(self.path)} {self.split} row {index}"

    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def _open(self, datasets: Any) -> Any:
        saved = [self.path / name for name in ("dataset_dict.json", "state.json")]
        if not any(file.is_file() for file in saved):
            files = [str(file) for file in self._parquet_files()]
            return datasets.Dataset.from_parquet(files)
        try:
            data = datasets.load_from_disk(str(self.path))
        except IndexError as error:  # what datasets makes of no rows
            raise ValueError(f"HuggingFacePairs: {self.path} must hold rows, got none.") from error
        if isinstance(data, datasets.DatasetDict):
            self._check_split(list(data))
            return data[self.split] if self.split is not None else next(iter(data.values()))
        if self.split is not None:
            self._check_split([str(data.split)])
        return data

    def _parquet_files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        found = sorted(self.path.glob("**/*.parquet"))
        if not found:
            raise FileNotFoundError(
                f"HuggingFacePairs: path must be a folder that save_to_disk wrote, or hold Parquet "
                f"files, got {self.path}, which does not."
            )
        splits = {path: _split_of(path) for path in found}
        self._check_split(sorted(set(splits.values())))
        return [path for path in found if self.split in (None, splits[path])]

    def _check_split(self, known: list[str]) -> None:
        if self.split is None and len(known) == 1:
            return
        if self.split not in known:
            got = repr(self.split) if self.split is not None else "none"
            raise ValueError(
                f"HuggingFacePairs: split must be one of those in {self.path} "
                f"({', '.join(known)}), got {got}."
            )


def _split_of(path: Path) -> str:
    named = _PART.fullmatch(path.name)
    return named[1] if named else path.stem


def _import_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "HuggingFacePairs: the package datasets must be installed: pip install "
            '"lit-vlm[datasets]".'
        ) from error
    return datasets
