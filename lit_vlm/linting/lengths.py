"""Checks of a dialogue's length in a model's tokens."""

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.language_models.base import IGNORED
from lit_vlm.linting.problems import Finding
from lit_vlm.processing import Processor

NO_LIMIT = 1_000_000_000
"""A ``max_length`` that cuts nothing."""


class LengthCheck:
    """Count the tokens of dialogues as a model reads them.

    Args:
        processor: the model's.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self._unlimited = processor.changed(max_length=NO_LIMIT)

    def findings(self, dialogue: Conversation) -> list[Finding]:
        """Return what the model refuses or cuts off of a dialogue."""
        try:
            if all(turn.role != "assistant" for turn in dialogue.turns):
                self.processor.encode_prompt(dialogue)
                return []
            encoded = self._unlimited.encode(dialogue)
        except BadSampleError as error:
            return [Finding("refused", str(error).removeprefix(f"{dialogue.name}: "))]
        limit, length = self.processor.max_length, len(encoded.input_ids)
        if length <= limit:
            return []
        size = f"{length} tokens, {sum(encoded.is_visual)} of them visual; max_length is {limit}"
        if any(encoded.is_visual[limit:]):
            return [Finding("visual_cut", f"visual tokens must not be cut, got {size}")]
        if all(label == IGNORED for label in encoded.labels[:limit]):
            return [Finding("answer_cut_away", f"the first answer must fit, got {size}")]
        lost = sum(label != IGNORED for label in encoded.labels[limit:])
        kept = sum(label != IGNORED for label in encoded.labels[:limit])
        answers = f"{lost} of {lost + kept} supervised ones are cut off"
        return [Finding("truncated", f"should fit, got {size}; {answers}")]
