"""easy-VQA's pictures with captions, made from what its questions tell."""

from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from lit_vlm.data.easy_vqa_facts import picture_facts, picture_identity
from lit_vlm.data.packed_texts import PackedTexts
from lit_vlm.data.picture_files import PictureFiles
from lit_vlm.data.picture_sources import PairSource


class EasyVQACaptions(PictureFiles, PairSource):
    """Read easy-VQA's pictures with captions such as ``a blue rectangle``.

    A picture of which colour and shape are known also has the captions ``a blue shape`` and ``a
    rectangle``, and one of which one is known has that one alone; ``num_left_out`` counts those of
    which nothing is known. The fullest caption is the first.

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
        self._captions = PackedTexts()

    def prepare(self) -> None:
        """Make the captions."""
        facts = picture_facts(self.split)
        known = [fact for fact in facts if fact.color or fact.shape]
        self.num_left_out = len(facts) - len(known)
        self.paths = PackedTexts(fact.path for fact in known)
        self._captions = PackedTexts(
            "\n".join(f"a {name}" for name in fact.names) for fact in known
        )
        if self.num_left_out:
            rank_zero_info(
                f"EasyVQACaptions: the questions about {self.num_left_out} of {len(facts)} "
                f"pictures tell nothing of them; these are left out."
            )

    def captions(self, index: int) -> tuple[str, ...]:
        """Return a picture's captions."""
        return tuple(self._captions[index].split("\n"))

    def identity(self, index: int) -> str:
        """Return the split and the picture's file."""
        return picture_identity(self.split, self.paths[index])
