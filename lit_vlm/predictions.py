"""What a model answered."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from lit_vlm.conversation import Conversation
from lit_vlm.data.collation import Reference
from lit_vlm.metrics.answer_accuracy import is_correct

IN_MEMORY = "(in memory)"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A generated answer and what it was the answer to.

    Attributes:
        index: place of the sample in the data set.
        id: the sample's id.
        images: paths of its images; ``(in memory)`` for one that has none.
        question: the last user turn.
        answer: the answer in the data; None if it has none.
        generated: the text that the model wrote.
        correct: whether it matches one of the answers; None without an answer.
        source: name of the data source it is from; empty if sources have none.
        answers: all that people answered, if that is more than the answer.
    """

    index: int
    id: str
    images: tuple[str, ...]
    question: str
    answer: str | None
    generated: str
    correct: bool | None
    source: str = ""
    answers: tuple[str, ...] = ()

    @classmethod
    def of(cls, reference: Reference, generated: str) -> "Prediction":
        """Put a generated text beside its reference."""
        answer = reference.answer or None
        answers = reference.answers
        right = any(is_correct(generated, accepted) for accepted in answers)
        return cls(
            index=reference.index,
            id=reference.dialogue.id,
            images=_paths(reference.dialogue),
            question=reference.dialogue.turns[-1].text,
            answer=answer,
            generated=generated,
            correct=right if answers else None,
            source=reference.source,
            answers=() if answers == (answer,) else answers,
        )

    @property
    def accepted(self) -> tuple[str, ...]:
        """All that the generated text may be compared with; nothing if there is no answer."""
        return self.answers or ((self.answer,) if self.answer is not None else ())

    @property
    def known_images(self) -> tuple[str, ...]:
        """The paths of its images, without those that are only in memory."""
        return tuple(path for path in self.images if path != IN_MEMORY)

    def to_json(self) -> str:
        """Return one line of a JSON Lines file."""
        row: dict[str, Any] = asdict(self)
        del row["index"]
        for name in ("source", "answers"):
            if not row[name]:
                del row[name]
        return json.dumps(row, ensure_ascii=False)


def _paths(dialogue: Conversation) -> tuple[str, ...]:
    sources = [image.source for image in dialogue.images]
    return tuple(s if isinstance(s, str) else IN_MEMORY for s in map(_plain, sources))


def _plain(source: Any) -> Any:
    return str(source) if hasattr(source, "__fspath__") else source
