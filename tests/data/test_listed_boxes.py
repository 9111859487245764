import re
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.conversation import BadSampleError, BoxContent, Conversation, ImageContent, Turn
from lit_vlm.data.parsing import parse_conversation

A, B = ImageContent("/pictures/a.png"), ImageContent("/pictures/b.png")
ONE, TWO = (10, 20, 30, 40), (0.5, 1, 2.5, 3)


def _parse(record: Any) -> Conversation:
    root = Path("/pictures")
    return parse_conversation(record, where="data.json:3", image_root=root, default_id="data-0")


def _record(question: str, answer: str, **others: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": "s", "image": ["a.png"], "conversations": turns, **others}


def test_markers_stand_for_the_listed_boxes_in_order() -> None:
    record = _record("<image>\nWhat is at <bbox>?", "a dog, <bbox>.", boxes=[list(ONE), list(TWO)])
    assert _parse(record).turns == (
        Turn("user", (A, "\nWhat is at ", BoxContent(ONE, 0), "?")),
        Turn("assistant", ("a dog, ", BoxContent(TWO, 0), ".")),
    )


def test_a_box_is_in_the_last_image_before_it_unless_the_sample_says_otherwise() -> None:
    boxes = {"image": ["a.png", "b.png"], "boxes": [list(ONE), list(ONE), list(TWO)]}
    question = "<image> <bbox> and <image> <bbox>"
    turns = _parse(_record(question, "<bbox>", **boxes)).turns
    assert turns[0].content == (A, " ", BoxContent(ONE, 0), " and ", B, " ", BoxContent(ONE, 1))
    assert turns[1].content == (BoxContent(TWO, 1),)
    named = _parse(_record(question, "<bbox>", **boxes, box_images=[1, 1, 0])).turns
    assert [p for t in named for p in t.content if isinstance(p, BoxContent)] == [
        BoxContent(ONE, 1),
        BoxContent(ONE, 1),
        BoxContent(TWO, 0),
    ]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image", "path": "a.png"}, {"type": "text", "text": "at <bbox>?"}],
        [{"type": "image", "path": "a.png"}, {"type": "text", "text": "at "}, "<bbox>?"],
    ],
)
def test_messages_have_boxes_too(content: list[Any]) -> None:
    parts = [{"type": "text", "text": p} if isinstance(p, str) else p for p in content]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a dog"}]
    turns = _parse({"messages": messages, "boxes": [list(ONE)]}).turns
    assert turns[0].content == (A, "at ", BoxContent(ONE, 0), "?")


def test_a_marker_is_a_word_in_messages_that_list_no_boxes() -> None:
    messages = [{"role": "user", "content": "Close the tag <bbox>."}]
    assert _parse({"messages": messages}).turns[0].content == ("Close the tag <bbox>.",)


def test_a_box_is_an_answer() -> None:
    turns = _parse(_record("<image>Where?", "<bbox>", boxes=[list(ONE)])).turns
    assert turns[1].text == "<box>(10,20),(30,40)</box>"


def test_several_people_may_have_answered() -> None:
    record = _record("<image>What?", "a dog", answers=["dog", "a dog", "dog"])
    assert _parse(record).answers == ("dog", "a dog", "dog")
    assert _parse(_record("<image>What?", "a dog", answers=None)).answers == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one <bbox> in its texts for each box, got 1 markers and 0 boxes."),
        ({"boxes": []}, "got 1 markers and 0 boxes."),
        ({"boxes": [list(ONE), list(ONE)]}, "got 1 markers and 2 boxes."),
        ({"boxes": {}}, "'boxes' must be a list, got dict."),
        ({"boxes": "1,2,3,4"}, "'boxes' must be a list, got the string '1,2,3,4'."),
        ({"boxes": [10, 20, 30, 40]}, "each of 'boxes' must be four numbers (left, top, right and"),
        ({"boxes": [[1, 2, 3]]}, "bottom in pixels), got [1, 2, 3]."),
        ({"boxes": [[1, 2, 3, "4"]]}, "got [1, 2, 3, '4']."),
        ({"boxes": [[1, 2, 3, True]]}, "got [1, 2, 3, True]."),
        ({"boxes": [[1, 2, 3, None]]}, "got [1, 2, 3, None]."),
        ({"boxes": [[30, 20, 10, 40]]}, "left less than right and top less than bottom, got [30"),
        ({"boxes": [[10, 20, 30, 20]]}, "add the former to the latter."),
        ({"boxes": [[1, 2, 3, float("nan")]]}, "got [1, 2, 3, nan]."),
        ({"boxes": [[1, 2, float("inf"), 4]]}, "got [1, 2, inf, 4]."),
        ({"boxes": [list(ONE)], "box_images": [1]}, "one of the sample's 1 images, counted from 0"),
        ({"boxes": [list(ONE)], "box_images": [-1]}, "the images' places, counted from 0, got -1."),
        ({"boxes": [list(ONE)], "box_images": ["0"]}, "got '0'."),
        ({"boxes": [list(ONE)], "box_images": [True]}, "got True."),
        ({"boxes": [list(ONE)], "box_images": []}, "an image for each of the 1 boxes, got 0."),
        ({"boxes": [list(ONE)], "box_images": 0}, "'box_images' must be a list, got int."),
        ({"boxes": [list(ONE)], "answers": "dog"}, "'answers' must be a list, got the string"),
        ({"boxes": [list(ONE)], "answers": ["dog", 3]}, "each of 'answers' must be a text, got 3."),
        ({"boxes": [list(ONE)], "answers": [" "]}, "each of 'answers' must be a text, got ' '."),
    ],
)
def test_says_in_one_sentence_what_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSampleError, match=re.escape(message)) as caught:
        _parse(_record("<image>Where?", "<bbox>", **given))
    assert str(caught.value).startswith("data.json:3 (sample 's'): ")


def test_a_box_needs_an_image() -> None:
    message = r"an image that stands before it, got the box \[10, 20, 30, 40\] before any\."
    before = _record("at <bbox>: <image>?", "a dog", boxes=[list(ONE)])
    with pytest.raises(BadSampleError, match=message):
        _parse(before)
    assert _parse({**before, "box_images": [0]}).turns[0].content[1] == BoxContent(ONE, 0)
    with pytest.raises(BadSampleError, match=message):
        _parse({**_record("Where?", "<bbox>", boxes=[list(ONE)]), "image": []})
