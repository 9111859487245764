import pytest

from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE, QuestionAnswer, Segment

PICTURE = ImageContent("picture.png")
TOKENIZER = train_bpe(["what color is it? it is red"], 300)
ROUNDS = [
    Turn("user", (PICTURE, "\nWhat is left?")),
    Turn("assistant", ("a circle",)),
    Turn("user", ("And right, in ", PICTURE, "?")),
    Turn("assistant", ("nothing",)),
]


def test_writes_one_round() -> None:
    assert QuestionAnswer().segments(ROUNDS[:2], TOKENIZER) == [
        IMAGE,
        Segment("content", "Question: What is left?\nAnswer:"),
        Segment("content", " a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]


def test_writes_two_rounds_and_ends_where_an_answer_is_due() -> None:
    turns = [Turn("system", ("Look.",)), *ROUNDS[:3]]
    assert QuestionAnswer("Q:", "A:", separator=" ").segments(turns, TOKENIZER) == [
        Segment("content", "Look. "),
        IMAGE,
        Segment("content", "Q: What is left? A:"),
        Segment("content", " a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
        IMAGE,
        Segment("content", "Q: And right, in ? A:"),
    ]


def test_writes_new_tokens() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_special_tokens({"additional_special_tokens": ["Question:", "Answer:"]})
    prompt = QuestionAnswer(markers="tokens")
    assert prompt.new_tokens == ("Question:", "Answer:")
    assert prompt.segments(ROUNDS[2:], tokenizer) == [
        IMAGE,
        Segment("markup", "Question:"),
        Segment("content", " And right, in ?\n"),
        Segment("markup", "Answer:"),
        Segment("content", " nothing", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]


@pytest.mark.parametrize("word", ["", "Question: ", "\nQ:"])
def test_refuses_words_with_white_space_at_their_ends(word: str) -> None:
    message = r"QuestionAnswer: {} must be a word without white space at its ends, got '"
    with pytest.raises(ValueError, match=message.format("question")):
        QuestionAnswer(question=word)
    with pytest.raises(ValueError, match=message.format("answer")):
        QuestionAnswer(answer=word)


def test_refuses_one_word_for_both() -> None:
    with pytest.raises(ValueError, match=r"question and answer must differ, got 'Q:' for both\."):
        QuestionAnswer("Q:", "Q:")
