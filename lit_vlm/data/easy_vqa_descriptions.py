"""easy-VQA's pictures and what is in them, as dialogues."""

from typing import Literal

from lit_vlm.data.easy_vqa_dialogues import EasyVQADialogues
from lit_vlm.data.easy_vqa_facts import Facts


class EasyVQADescriptions(EasyVQADialogues):
    """Ask for a description of each of easy-VQA's pictures: ``a blue rectangle``.

    3,971 training and 988 test pictures; of one in ten only the colour or the shape is known, and
    told: ``a blue shape``, ``a rectangle``. For stages that learn from captions.

    Args:
        split: ``train`` or ``test``.
        question: what is asked; the default is Qwen-VL's prompt for captions.

    Raises:
        ImportError: on ``prepare``, if the package is missing.

    Source:
        easy-VQA (Zhou, 2019), https://github.com/vzhou842/easy-VQA.
    """

    def __init__(
        self,
        split: Literal["train", "test"],
        question: str = "Describe the image in English:",
    ) -> None:
        super().__init__(split)
        self.asked = question

    def question(self, fact: Facts) -> str:
        """Return the question, which is always the same."""
        return self.asked

    def answer(self, fact: Facts) -> str:
        """Return the fullest description."""
        return f"a {fact.names[0]}"
