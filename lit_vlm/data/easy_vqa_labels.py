"""easy-VQA's pictures with their classes, which its questions tell."""

from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lit_vlm.data.easy_vqa_facts import COLORS, SHAPES, picture_facts, picture_identity
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_files import PictureFiles
from lit_vlm.data.picture_sources import LabelledSource


class EasyVQALabels(PictureFiles, LabelledSource):
    """Read easy-VQA's pictures as 24 classes, one for each colour and shape: ``blue circle``.

    A picture is used if its questions and answers tell both; ``num_left_out`` counts the others.

    Args:
        split: ``train`` or ``test``.

    Raises:
        ImportError: on ``prepare``, if the package is missing.

    Source:
        easy-VQA (Zhou, 2019), https://github.com/vzhou842/easy-VQA.
    """

    def __init__(self, split: Literal["train", "test"]) -> None:
        super().__init__()
        self.split: Literal["train", "test"] = split
        self.num_left_out = 0
        self._labels: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def prepare(self) -> None:
        """Find out each picture's class."""
        facts = picture_facts(self.split)
        known = [fact for fact in facts if fact.color and fact.shape]
        self.num_left_out = len(facts) - len(known)
        self.paths = PackedTexts(fact.path for fact in known)
        numbers = {name: number for number, name in enumerate(self.classes)}
        labels = [numbers[f"{fact.color} {fact.shape}"] for fact in known]
        self._labels = np.array(labels, dtype=np.int64)
        if self.num_left_out:
            rank_zero_info(
                f"EasyVQALabels: the questions about {self.num_left_out} of {len(facts)} pictures "
                f"do not tell both colour and shape; these are left out."
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The 24 classes."""
        return tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)

    def label(self, index: int) -> int:
        """Return the number of a picture's class."""
        return int(self._labels[index])

    def identity(self, index: int) -> str:
        """Return the split and the picture's file."""
        return picture_identity(self.split, self.paths[index])
