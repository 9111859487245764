from collections.abc import Callable
from pathlib import Path

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.model import VisionLanguageModel
from lit_vlm.viewing.pieces import Token, VisualTokens, read_dialogue

TinyModel = Callable[..., VisionLanguageModel]


def two_images(pictures: dict[str, Path], answer: str = "AB") -> Conversation:
    shown = (ImageContent(pictures["red"]), ImageContent(pictures["green"]))
    turns = (Turn("user", (*shown, "QÜ")), Turn("assistant", (answer,)))
    return Conversation("1", turns)


def test_shows_what_training_reads_token_by_token(
    tiny_model: TinyModel, pictures: dict[str, Path]
) -> None:
    processor = tiny_model().processor
    dialogue = two_images(pictures)
    encoded = processor.encode(dialogue)
    read = read_dialogue(dialogue, processor)
    first, second, *texts = read.pieces
    assert (first, second) == (VisualTokens(0, 4, 1, False), VisualTokens(4, 4, 2, False))
    assert first.text == "[4 visual tokens of image 1]"
    tokens = [piece for piece in texts if isinstance(piece, Token)]
    assert [t.id for t in tokens] == encoded.input_ids[8:]
    assert [t.place for t in tokens] == list(range(8, len(encoded.input_ids)))
    assert [t.supervised for t in tokens] == [label != IGNORED for label in encoded.labels[8:]]
    assert [t.text for t in tokens] == ["Q", "‹Ã›", "‹ľ›", "\n", "A", "B", "<|end|>"]
    assert read.learnt == ("AB<|end|>",)
    assert (read.tokens, read.visual, read.supervised, read.truncated) == (15, 8, 3, 0)
    assert read.refusal == ""


def test_marks_what_the_limit_cuts_off(tiny_model: TinyModel, pictures: dict[str, Path]) -> None:
    processor = tiny_model(max_length=13).processor
    read = read_dialogue(two_images(pictures), processor)
    assert [piece.text for piece in read.pieces if piece.cut] == ["B", "<|end|>"]
    assert read.learnt == ("A",)
    assert (read.tokens, read.supervised, read.truncated, read.max_length) == (15, 1, 2, 13)
    assert read.refusal == ""


def test_shows_a_sample_that_training_refuses_and_says_why(
    tiny_model: TinyModel, pictures: dict[str, Path]
) -> None:
    processor = tiny_model(max_length=7).processor
    read = read_dialogue(two_images(pictures), processor)
    assert [piece.cut for piece in read.pieces[:3]] == [False, True, True]
    assert "visual tokens must not be cut" in read.refusal
    assert read.learnt == ()


def test_shows_a_question_without_an_answer(
    tiny_model: TinyModel, pictures: dict[str, Path]
) -> None:
    processor = tiny_model().processor
    question, _ = two_images(pictures).until_answer()
    read = read_dialogue(question, processor)
    assert read.tokens == len(processor.encode_prompt(question).input_ids)
    assert (read.supervised, read.learnt) == (0, ())
    assert "must have an answer to learn from" in read.refusal


def test_tells_the_rounds_of_a_dialogue_apart(tiny_model: TinyModel) -> None:
    turns = [Turn("user", ("Q",)), Turn("assistant", ("A",))]
    read = read_dialogue(Conversation("1", (*turns, *turns)), tiny_model().processor)
    assert read.learnt == ("A<|end|>", "A<|end|>")
