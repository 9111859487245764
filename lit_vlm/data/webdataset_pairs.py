"""Pictures and captions in WebDataset shards on disk, each exactly once an epoch."""

import os
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_sources import PairSource
from lit_vlm.data.shard_index import ShardIndex, index_shard
from lit_vlm.data.shard_names import absolute, find_shards, is_address
from lit_vlm.data.shard_samples import decode_picture, import_webdataset, sample_form


class WebDatasetPairs(PairSource):
    """Read local WebDataset shards as a list of samples.

    The headers are read once, so that any sample can be read by its place in its file. Samples,
    not shards, are then shuffled and shared out among ranks and workers: it does not matter that
    shards are of unequal sizes, or fewer than workers, each sample comes exactly once an epoch,
    and a run resumes within an epoch, with any number of workers. Shards that are too many to
    index, or far away, are read by ``ResampledWebDataset``.

    A sample is the members of one key that follow each other, such as ``000123.jpg`` and
    ``000123.txt``.

    Args:
        shards: tar files, uncompressed; braces (``train-{000..127}.tar``) and wildcards work.
        image_endings: endings that pictures may have; the first that a sample has is taken.
        caption_endings: likewise for captions: of texts, in which each line is a caption, or JSON.
        caption_field: key of the caption, or of a list of captions, in a JSON object; a JSON
            string or list of strings is taken as it is.
        index_folder: folder to keep the places of samples in, for the next run; None to read the
            headers each time.
        on_bad_image: ``error`` stops at a sample that lacks a picture or a caption, or whose
            picture cannot be read; ``skip`` passes over it, and says which.
        max_skipped: most samples that may be skipped before the run stops.

    Raises:
        ValueError: if an argument is not one of those, or a shard is an address.
        ImportError: on ``prepare``, if the package webdataset is missing.
        FileNotFoundError: on ``prepare``, if a shard is missing.
        BadSampleError: on ``prepare``, if a shard or sample cannot be used.

    Source:
        WebDataset (Aizman et al., 2020), https://arxiv.org/abs/2001.01858, whose library reads and
        decodes the members.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        image_endings: Sequence[str] = ("jpg", "jpeg", "png", "webp"),
        caption_endings: Sequence[str] = ("txt", "json"),
        caption_field: str = "caption",
        index_folder: str | Path | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
        max_skipped: int = 100,
    ) -> None:
        super().__init__(on_bad_image, max_skipped)
        self.shards = [shards] if isinstance(shards, str) else list(shards)
        if far := [shard for shard in self.shards if is_address(shard)]:
            raise ValueError(
                f"WebDatasetPairs: shards must be files on disk, got {far[0]}. Fetch them, or read "
                f"them by ResampledWebDataset."
            )
        self.form = sample_form("WebDatasetPairs", image_endings, caption_endings, caption_field)
        self.index_folder = Path(index_folder) if index_folder is not None else None
        self._paths: list[str] = []
        self._ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._spans: NDArray[np.int64] = np.zeros((0, 4), dtype=np.int64)
        self._endings: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._keys = PackedTexts()

    def rebuild_config(self) -> dict[str, Any]:
        """Name the shards in full, whatever folder a later command starts in."""
        record = super().rebuild_config()
        record["init_args"]["shards"] = [absolute(shard) for shard in self.shards]
        if self.index_folder is not None:
            record["init_args"]["index_folder"] = str(self.index_folder.absolute())
        return record

    def prepare(self) -> None:
        """Find the samples."""
        self._paths = find_shards("WebDatasetPairs", self.shards)
        indices = [index_shard(Path(p), self.form, self.index_folder) for p in self._paths]
        self._pass_over(indices)
        self._ends = np.cumsum([len(index.keys) for index in indices])
        self._spans = np.concatenate([index.spans for index in indices])
        self._endings = np.concatenate([index.endings for index in indices])
        self._keys = PackedTexts(key for index in indices for key in index.keys)
        if not len(self):
            raise BadSampleError(
                f"WebDatasetPairs: the shards must hold samples, got none in {self._paths[0]} "
                f"and {len(self._paths) - 1} more."
            )

    def __len__(self) -> int:
        """Return the number of usable samples."""
        return len(self._spans)

    def picture(self, index: int) -> Image.Image:
        """Read a picture as RGB."""
        return decode_picture(self._member(index, 0), self.name(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """Read a sample's captions."""
        ending = self.form.captions[int(self._endings[index])]
        return self.form.read_captions(ending, self._member(index, 2), self.name(index))

    def name(self, index: int) -> str:
        """Return the shard and the key of a sample."""
        return f"{self._path(index)}: {self._keys[index]}"

    def identity(self, index: int) -> str:
        """Return the shard, named in full, and the key of a sample."""
        return f"{os.path.abspath(self._path(index))}: {self._keys[index]}"

    def _path(self, index: int) -> str:
        return self._paths[int(np.searchsorted(self._ends, index, side="right"))]

    def _member(self, index: int, column: int) -> bytes:
        begin, end = (int(place) for place in self._spans[index, column : column + 2])
        with open(self._path(index), "rb") as shard:
            shard.seek(begin)
            held = BytesIO(shard.read(end - begin))
        try:
            [member] = import_webdataset().tariterators.tar_file_iterator(held)
        except (tarfile.TarError, ValueError) as error:
            raise BadSampleError(
                f"{self.name(index)}: must be where it was when the run began, got a shard that "
                f"has changed. Leave shards alone while they are read."
            ) from error
        return member["data"]

    def _pass_over(self, indices: list[ShardIndex]) -> None:
        problems = [
            f"{path}: {key}: {problem}"
            for path, index in zip(self._paths, indices, strict=True)
            for key, problem in index.problems
        ]
        if not problems:
            return
        if self.on_bad_image == "error" or len(problems) > self.max_skipped:
            raise BadSampleError(
                f"{problems[0]} There are {len(problems)} such samples. Mend or remove them, or "
                f"pass over up to max_skipped of them by on_bad_image: skip."
            )
        rank_zero_warn(
            f"WebDatasetPairs: {len(problems)} samples are left out, the first of them "
            f"{problems[0]}"
        )
