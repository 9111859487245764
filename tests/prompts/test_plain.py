import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.conversation import BadSampleError, Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import IMAGE, Plain, Segment

M = 2
PICTURE = ImageContent("picture.png")
TOKENIZER = train_bpe(["what color is it? it is red", "a blue square"], 300)


def _processor(prompt: Plain) -> Processor:
    return Processor(TOKENIZER, prompt, (4, 4), M, "stretch", (0, 0, 0), max_length=4096)


def test_writes_texts_separators_and_ends() -> None:
    turns = (
        Turn("system", ("Look.",)),
        Turn("user", ("Left ", PICTURE, " or right ", PICTURE, "?")),
        Turn("assistant", ("left",)),
        Turn("user", ("Sure?",)),
        Turn("assistant", ("yes",)),
    )
    assert Plain(separator=" ").segments(turns, TOKENIZER) == [
        Segment("content", "Look."),
        Segment("content", " "),
        Segment("content", "Left "),
        IMAGE,
        Segment("content", " or right "),
        IMAGE,
        Segment("content", "?"),
        Segment("content", " "),
        Segment("content", "left", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
        Segment("content", "Sure?"),
        Segment("content", " "),
        Segment("content", "yes", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]


def test_begins_as_the_tokenizer_begins_every_text() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    turns = [Turn("user", ("a",))]
    assert Plain().segments(turns, tokenizer)[0] == Segment("content", "a")
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert Plain().segments(turns, tokenizer)[0] == Segment("markup", "<s>")


def test_special_tokens_in_a_text_are_words() -> None:
    processor = _processor(Plain())
    turns = (Turn("user", ("what is <|end|>?",)), Turn("assistant", ("<|end|> is a token",)))
    encoded = processor.encode(Conversation("a", turns))
    assert encoded.input_ids.count(TOKENIZER.eos_token_id) == 1
    assert encoded.input_ids[-1] == TOKENIZER.eos_token_id
    spoken = [i for i in encoded.labels if i != IGNORED]
    assert TOKENIZER.decode(spoken) == "<|end|> is a token<|end|>"


def test_refuses_a_tokenizer_without_end_of_text() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"Plain: the tokenizer must have an end-of-text token"):
        Plain().stop_ids(tokenizer)


def test_refuses_a_dialogue_without_answer() -> None:
    dialogue = Conversation("7", (Turn("user", ("what?",)),), "a.json:3")
    message = r"a\.json:3 \(sample '7'\): must have an answer to learn from, got none"
    with pytest.raises(BadSampleError, match=message):
        _processor(Plain()).encode(dialogue)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROUND = st.tuples(st.integers(0, 2), TEXTS, TEXTS.filter(lambda text: text.strip() != ""))


@given(rounds=st.lists(ROUND, min_size=1, max_size=3), separator=TEXTS)
@settings(deadline=None, max_examples=100)
def test_prompt_and_labels_agree_for_any_text(
    rounds: list[tuple[int, str, str]], separator: str
) -> None:
    processor = _processor(Plain(separator))
    turns: list[Turn] = []
    for number, question, answer in rounds:
        turns += [Turn("user", (*[PICTURE] * number, question)), Turn("assistant", (answer,))]
    whole = processor.encode(Conversation("a", tuple(turns)))
    prompt = processor.encode_prompt(Conversation("a", tuple(turns[:-1])))
    places = len(prompt.input_ids)
    assert whole.input_ids[:places] == prompt.input_ids
    assert whole.labels[:places] == prompt.labels
    assert whole.labels[places:] == whole.input_ids[places:]
    spoken = [label for label in whole.labels if label != IGNORED]
    assert TOKENIZER.decode(spoken) == "".join(f"{answer}<|end|>" for _, _, answer in rounds)
    assert sum(whole.is_visual) == M * sum(number for number, _, _ in rounds)
