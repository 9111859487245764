import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import IMAGE, LLaVAPlain, Segment

PICTURE = ImageContent("picture.png")
TOKENIZER = train_bpe(["a red circle\n", "what is it?"], 300)
QUESTION = Turn("user", (PICTURE, "\nWhat is it?"))
ANSWER = Turn("assistant", ("a red circle",))


def _processor() -> Processor:
    return Processor(TOKENIZER, LLaVAPlain(), (4, 4), 2, "stretch", (0, 0, 0), max_length=100)


def test_writes_the_image_and_the_caption_alone() -> None:
    turns = [Turn("system", ("Look.",)), QUESTION, ANSWER]
    written = LLaVAPlain().segments(turns, TOKENIZER)
    assert written == [IMAGE, Segment("content", "a red circle\n", supervised=True)]


def test_the_caption_and_its_line_break_are_learnt() -> None:
    processor = _processor()
    encoded = processor.encode(Conversation("a", (QUESTION, ANSWER)))
    learnt = [label for label in encoded.labels if label != IGNORED]
    assert TOKENIZER.decode(learnt) == "a red circle\n"
    prompt = processor.encode_prompt(Conversation("a", (QUESTION,)))
    assert prompt.input_ids == encoded.input_ids[:2]
    assert prompt.is_visual == [True, True]


def test_a_line_break_ends_a_generated_caption() -> None:
    processor = _processor()
    assert TOKENIZER.decode(processor.stop_ids) == "\n<|end|>"
    ids = TOKENIZER("a red circle\nand more").input_ids
    assert processor.decode(ids) == "a red circle"


def test_needs_a_token_that_ends_an_answer() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.eos_token = None
    assert len(LLaVAPlain().stop_ids(tokenizer)) == 1
    words = Tokenizer(models.WordLevel({"a": 0}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # a line break is nothing to it
    with pytest.raises(ValueError, match="LLaVAPlain: the tokenizer must have an end-of-text"):
        LLaVAPlain().stop_ids(PreTrainedTokenizerFast(tokenizer_object=words))
