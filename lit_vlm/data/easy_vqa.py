"""easy-VQA: questions about pictures of one coloured shape."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data.sources import ConversationSource, image_key


class EasyVQA(ConversationSource):
    """Read easy-VQA: one question and its one-word answer per dialogue.

    4,000 training and 1,000 test pictures of 64 x 64 pixels; 38,575 and 9,673 questions with 13
    answers. Answering from the question alone gets 67.0 % of the test questions right.

    Args:
        split: ``train`` or ``test``.

    Raises:
        ImportError: on ``prepare``, if the package is missing.

    Source:
        easy-VQA (Zhou, 2019), https://github.com/vzhou842/easy-VQA.
    """

    def __init__(self, split: Literal["train", "test"]) -> None:
        super().__init__()
        self.split = split
        self._questions: list[str] = []
        self._answers: list[str] = []
        self._image_ids: list[int] = []
        self._paths: dict[int, str] = {}

    def prepare(self) -> None:
        """Read the questions."""
        try:
            import easy_vqa
        except ImportError as error:
            raise ImportError(
                'EasyVQA: the package easy-vqa must be installed: pip install "lit-vlm[demo]".'
            ) from error
        train = self.split == "train"
        load = easy_vqa.get_train_questions if train else easy_vqa.get_test_questions
        paths = easy_vqa.get_train_image_paths if train else easy_vqa.get_test_image_paths
        self._questions, self._answers, self._image_ids = load()
        self._paths = paths()

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._questions)

    def __getitem__(self, index: int) -> Conversation:
        """Return one question about one picture, with its answer."""
        picture = ImageContent(self._paths[self._image_ids[index]])
        question = Turn("user", (picture, self._questions[index]))
        answer = Turn("assistant", (self._answers[index],))
        return Conversation(f"{self.split}-{index}", (question, answer), f"easy-VQA {self.split}")

    def image_keys(self, index: int) -> tuple[int, ...]:
        """Return the picture's key."""
        return (image_key(self._paths[self._image_ids[index]]),)

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each question and answer, in characters."""
        pairs = zip(self._questions, self._answers, strict=True)
        return np.array([len(question) + len(answer) for question, answer in pairs])
