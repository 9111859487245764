import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from lit_vlm.language_models.text_tokens import closing, encode_texts

WORDS = ["<unk>", "<s>", "</s>", "red", "fox"]
UNKNOWN, BEGIN, END, RED, FOX = range(5)


def of_words(template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows two words, with the tokens of a template about them."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if template is not None:
        special = [("<s>", BEGIN), ("</s>", END)]
        words.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize(
    ("template", "opens", "expected"),
    [
        (None, False, [RED, FOX, END]),  # what is unknown is no end token, nor a beginning
        (None, True, [END, RED, FOX, END]),
        ("$A </s>", False, [RED, FOX, END]),
        ("$A </s>", True, [END, RED, FOX, END]),
        ("<s> $A", False, [BEGIN, RED, FOX, END]),
        ("<s> $A", True, [BEGIN, RED, FOX, END]),
        ("<s> $A </s>", True, [BEGIN, RED, FOX, END]),
    ],
)
def test_texts_are_closed_and_opened_once(
    template: str | None, opens: bool, expected: list[int]
) -> None:
    tokenizer = closing(of_words(template), opens)
    again = closing(closing(tokenizer, opens), opens)
    for text, ids in (("red fox", expected), ("elk", [*_without_words(expected, UNKNOWN)])):
        assert encode_texts(again, [text], max_length=9, fill=False).input_ids.tolist() == [ids]


def _without_words(ids: list[int], word: int) -> list[int]:
    return [word if id_ == RED else id_ for id_ in ids if id_ != FOX]
