import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.conversation import Box, BoxContent, ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import (
    BoxFormat,
    LLaVAPlain,
    LLaVAV1,
    Plain,
    PlainBoxes,
    PromptFormat,
    QwenBoxes,
    QwenVL,
)

FORMATS = {"qwen": QwenBoxes(), "plain": PlainBoxes(), "fine": PlainBoxes(digits=5)}
PRECISION = {"qwen": 0.0005, "plain": 0.0005, "fine": 0.000005}


@pytest.mark.parametrize("name", FORMATS)
@given(shares=st.lists(st.floats(0, 1), min_size=4, max_size=4), words=st.text(max_size=20))
def test_what_is_written_is_read_again(name: str, shares: list[float], words: str) -> None:
    (x1, x2), (y1, y2) = sorted(shares[:2]), sorted(shares[2:])
    words = words.translate({ord(sign): None for sign in "[]<>();,"})
    text = FORMATS[name].write((x1, y1, x2, y2))
    [found] = FORMATS[name].read(f"{words}{text}{words}")
    for place, (before, after) in enumerate(zip((x1, y1, x2, y2), found, strict=True)):
        own = (x1, x2) if place % 2 == 0 else (y1, y2)
        widened = own[0] < own[1] <= own[0] + 2 * PRECISION[name]
        assert abs(before - after) <= PRECISION[name] * (3 if widened else 1) * 1.001
    # What has an extent keeps it.
    assert (found[0] < found[2]) >= (x1 < x2)
    assert (found[1] < found[3]) >= (y1 < y2)
    assert FORMATS[name].read(f"{text} and {text}") == [found, found]


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("<ref>a dog</ref><box>(100,200),(300,400)</box>", [(0.1, 0.2, 0.3, 0.4)]),
        (
            "(100,200),(300,400)</box><box>( 0, 1 ) ,(2,1000)</box>",
            [(0.1, 0.2, 0.3, 0.4), (0, 0.001, 0.002, 1)],
        ),
        ("<box>(100,200),(300,4", []),
        (f"<box>(100,200),(300,{'4' * 5000})</box>", []),
        ("<box>(300,200),(100,400)</box>", []),
        ("<box>(100,400),(300,200)</box>", []),
        ("<box>(100,200),(300,1001)</box>", []),
        ("<box>(0.1,0.2),(0.3,0.4)</box>", []),
        ("<quad>(1,2),(3,2),(3,4),(1,4)</quad>", []),
        ("<quad>(1,2),(3,2),(3,4),(1,4)", []),
        ("on the left", []),
        ("", []),
    ],
)
def test_reads_qwens_boxes_and_passes_over_what_is_none(text: str, boxes: list[Box]) -> None:
    assert QwenBoxes().read(text) == boxes


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("at [0.123,0.456,0.789,0.999].", [(0.123, 0.456, 0.789, 0.999)]),
        ("[0.1, .2, 1, 1.000]", [(0.1, 0.2, 1, 1)]),
        ("[0.1,0.2,0.3,0.4;0.5,0.6,0.7,0.8]", [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)]),
        ("[0.1,0.2,0.3,0.4;0.5,0.6]", [(0.1, 0.2, 0.3, 0.4)]),
        ("[0.3,0.2,0.1,0.4]", []),
        ("[0.1,0.4,0.3,0.2]", []),
        ("[0.1,0.2,0.3,1.4]", []),
        ("[-0.1,0.2,0.3,0.4]", []),
        ("[0.1,0.2,0.3]", []),
        ("[0.1,0.2,0.3,0.4", []),
        ("0.1,0.2,0.3,0.4", []),
        ("[a,b,c,d]", []),
    ],
)
def test_reads_plain_boxes_and_passes_over_what_is_none(text: str, boxes: list[Box]) -> None:
    assert PlainBoxes().read(text) == boxes


def test_writes_a_thin_box_one_unit_wide() -> None:
    assert QwenBoxes().write((0.1001, 0, 0.1004, 1)) == "<box>(100,0),(101,1000)</box>"
    assert QwenBoxes().write((0.9998, 0, 1, 0.0001)) == "<box>(999,0),(1000,1)</box>"
    assert QwenBoxes().write((0.1, 0, 0.1, 1)) == "<box>(100,0),(100,1000)</box>"
    assert PlainBoxes(2).write((0.121, 0.999, 0.122, 1)) == "[0.12,0.99,0.13,1.00]"


@pytest.mark.parametrize("format", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize(
    "box",
    [(-0.1, 0, 1, 1), (0, 0, 1.1, 1), (0.5, 0, 0.4, 1), (0, 0.5, 1, 0.4), (math.nan, 0, 1, 1)],
)
def test_refuses_a_box_that_is_not_inside(format: BoxFormat, box: Box) -> None:
    with pytest.raises(ValueError, match=r"Boxes: a box must be .* from 0 to 1, got \("):
        format.write(box)


def test_refuses_to_write_no_digits() -> None:
    with pytest.raises(ValueError, match=r"PlainBoxes: digits must be at least 1, got 0\."):
        PlainBoxes(digits=0)


def test_a_format_can_be_rebuilt_from_its_record() -> None:
    record = PlainBoxes(4).init_config
    assert record["init_args"] == {"digits": 4}
    assert QwenBoxes().init_config["class_path"] == "lit_vlm.prompts.boxes.QwenBoxes"


@pytest.mark.parametrize("name", FORMATS)
def test_any_tokenizer_made_here_can_write_a_box(name: str) -> None:
    tokenizer = train_bpe(["what is it?"], 258)  # bytes alone
    text = FORMATS[name].write((0.12, 0.34, 0.56, 0.78))
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("prompt", [Plain(), LLaVAPlain(), LLaVAV1(), QwenVL(markers="words")])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_prompts_refuse_boxes_that_are_not_words_yet(prompt: PromptFormat, role: str) -> None:
    box = BoxContent((1, 2, 3, 4))
    question = Turn("user", (ImageContent("a.png"), box if role == "user" else "where?"))
    answer = Turn("assistant", (box,))
    message = r"must be given boxes as words, got <box>\(1,2\),\(3,4\)</box>\. Processor\.written"
    with pytest.raises(ValueError, match=message):
        prompt.segments([question, answer], train_bpe(["a"], 258))
