from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.linting.lengths import LengthCheck
from lit_vlm.model import VisionLanguageModel

TinyModel = Callable[..., VisionLanguageModel]


def dialogue(*texts: str, image: Path | None = None) -> Conversation:
    shown = (ImageContent(image),) if image else ()
    turns = [
        Turn("assistant" if i % 2 else "user", (*shown, text) if i == 0 else (text,))
        for i, text in enumerate(texts)
    ]
    return Conversation("1", tuple(turns))


def kinds(check: LengthCheck, sample: Conversation) -> list[str]:
    return [finding.kind for finding in check.findings(sample)]


@pytest.fixture
def check(tiny_model: TinyModel) -> LengthCheck:
    """Count by a model of which an image takes 4 tokens, and a letter one, of 12 at most."""
    return LengthCheck(tiny_model(max_length=12).processor)


def test_finds_nothing_in_what_fits(check: LengthCheck, pictures: dict[str, Path]) -> None:
    sample = dialogue("QQQ", "AAA", image=pictures["red"])
    assert len(check.processor.encode(sample).input_ids) == 12
    assert kinds(check, sample) == []


def test_counts_the_tokens_that_are_cut_off(check: LengthCheck, pictures: dict[str, Path]) -> None:
    [finding] = check.findings(dialogue("QQQ", "AAAAA", image=pictures["red"]))
    assert finding.kind == "truncated"
    assert not finding.is_error
    assert finding.message == (
        "should fit, got 14 tokens, 4 of them visual; max_length is 12; 2 of 6 supervised ones "
        "are cut off"
    )


def test_tells_what_cannot_be_cut(check: LengthCheck, pictures: dict[str, Path]) -> None:
    assert kinds(check, dialogue("Q" * 12, "A", image=pictures["red"])) == ["answer_cut_away"]
    late = Conversation(
        "1",
        (
            Turn("user", ("Q" * 10, ImageContent(pictures["red"]))),
            Turn("assistant", ("A",)),
        ),
    )
    assert kinds(check, late) == ["visual_cut"]


def test_checks_questions_as_they_are_asked(check: LengthCheck) -> None:
    assert kinds(check, dialogue("QQ")) == []
    [finding] = check.findings(dialogue("Q" * 12))
    assert finding.kind == "refused"
    assert finding.message.startswith("a prompt must be shorter than max_length=12, got 13 tokens")
