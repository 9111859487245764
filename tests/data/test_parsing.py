import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.conversation import BadSampleError, Conversation, ImageContent, Turn
from lit_vlm.data.listed_images import image_names
from lit_vlm.data.parsing import parse_conversation

ROOT = Path("/pictures")
A, B = ImageContent("/pictures/a.png"), ImageContent("/pictures/b.png")
HUMAN = {"from": "human", "value": "<image>\nWhat?"}
GPT = {"from": "gpt", "value": "This."}
USER = {"role": "user", "content": "What?"}
ASSISTANT = {"role": "assistant", "content": "This."}


def _parse(record: Any) -> Conversation:
    return parse_conversation(record, where="data.json:3", image_root=ROOT, default_id="data-0")


def test_reads_the_form_of_llava() -> None:
    record = {
        "id": "s-1",
        "image": ["a.png", "b.png"],
        "conversations": [
            {"from": "system", "value": "Look."},
            {"from": "human", "value": "Is <image>like"},
            {"from": "gpt", "value": "like what?"},
            {"from": "human", "value": "<image>\nthis?"},
            {"from": "gpt", "value": "Yes."},
        ],
    }
    turns = (
        Turn("system", ("Look.",)),
        Turn("user", ("Is ", A, "like")),
        Turn("assistant", ("like what?",)),
        Turn("user", (B, "\nthis?")),
        Turn("assistant", ("Yes.",)),
    )
    assert _parse(record) == Conversation("s-1", turns)
    assert _parse(record).where == "data.json:3"


@pytest.mark.parametrize("key", ["path", "image", "url"])
def test_reads_the_form_of_messages(key: str) -> None:
    content = [
        {"type": "image", key: "a.png"},
        {"type": "text", "text": "or"},
        {"type": "image", key: "/pictures/b.png"},
        {"type": "text", "text": ""},
    ]
    record = {"id": 7, "messages": [{"role": "user", "content": content}, ASSISTANT]}
    expected = (Turn("user", (A, "or", B)), Turn("assistant", ("This.",)))
    assert _parse(record) == Conversation("7", expected)


@pytest.mark.parametrize(
    "content",
    [
        "<image>or<image>?",
        [
            {"type": "image"},
            {"type": "text", "text": "or"},
            {"type": "image"},
            {"type": "text", "text": "?"},
        ],
        [{"type": "image"}, {"type": "text", "text": "or<image>?"}],
    ],
)
def test_messages_take_their_images_from_a_list_beside_them(content: Any) -> None:
    record = {
        "messages": [{"role": "user", "content": content}, ASSISTANT],
        "images": ["a.png", "b.png"],
    }
    assert _parse(record).turns[0] == Turn("user", (A, "or", B, "?"))


@pytest.mark.parametrize("images", ["a.png", ["a.png"]])
@pytest.mark.parametrize("key", ["image", "images"])
def test_one_image_needs_no_list(images: Any, key: str) -> None:
    assert _parse({key: images, "conversations": [HUMAN, GPT]}).images == (A,)


@pytest.mark.parametrize("nothing", [{}, {"image": None}, {"image": []}, {"images": None}])
def test_a_sample_may_have_no_image(nothing: dict[str, Any]) -> None:
    plain = {"from": "human", "value": "What?"}
    expected = (Turn("user", ("What?",)), Turn("assistant", ("This.",)))
    assert _parse({"conversations": [plain, GPT], **nothing}).turns == expected
    assert _parse({"messages": [USER, ASSISTANT], **nothing}).turns == expected


def test_a_marker_is_a_word_where_no_images_are_listed() -> None:
    written = {"role": "user", "content": "What does <image> mean in HTML?"}
    assert _parse({"messages": [written, ASSISTANT]}).turns[0].text == written["content"]


@pytest.mark.parametrize("nothing", [{}, {"id": None}])
def test_a_sample_without_id_is_named_by_its_place(nothing: dict[str, Any]) -> None:
    assert _parse({"messages": [USER, ASSISTANT], **nothing}).id == "data-0"


def test_a_dialogue_may_wait_for_its_answer() -> None:
    assert _parse({"messages": [USER]}).turns == (Turn("user", ("What?",)),)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["a", "b"], "data.json:3: a sample must be a JSON object, got list."),
        ("text", "data.json:3: a sample must be a JSON object, got str."),
        ({}, "must have 'conversations' or 'messages', got the keys (none)."),
        ({"id": "s", "text": "a"}, "got the keys id, text."),
        ({"conversations": "hi"}, "'conversations' must be a list, got the string 'hi'."),
        ({"conversations": {"a": 1}}, "'conversations' must be a list, got dict."),
        ({"messages": "hi"}, "'messages' must be a list, got the string 'hi'."),
        ({"messages": None}, "'messages' must be a list, got NoneType."),
        ({"messages": ["hi"]}, "a turn must be an object, got str."),
        (
            {"messages": [{"role": "human", "content": "a"}]},
            "'role' must be one of system, user, assistant, got 'human'.",
        ),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "'role' must be one of"),
        (
            {"conversations": [{"from": "user", "value": "a"}]},
            "'from' must be one of system, human, gpt, got 'user'.",
        ),
        ({"conversations": [{"value": "a"}]}, "'from' must be one of system, human, gpt, got None"),
        ({"conversations": [{"from": "human"}]}, "'value' must be a string, got NoneType."),
        ({"conversations": [{"from": "human", "value": 3}]}, "'value' must be a string, got int."),
        ({"messages": [{"role": "user"}]}, "'content' must be a list, got NoneType."),
        ({"messages": [{"role": "user", "content": 3}]}, "'content' must be a list, got int."),
        (
            {"messages": [{"role": "user", "content": ["a"]}]},
            "each part of a content list must be an object of type 'text' or 'image', got 'a'.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video", "path": "a"}]}]},
            "must be an object of type 'text' or 'image', got 'video'.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "'text' must be a string, got NoneType.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "an image must be a path, got None.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "url": {"url": "a"}}]}]},
            "an image must be a path, got {'url': 'a'}.",
        ),
        (
            {"conversations": [HUMAN, GPT]},
            "must have one <image> in its texts for each image, got 1 markers and 0 images.",
        ),
        ({"image": ["a", "b"], "conversations": [HUMAN, GPT]}, "got 1 markers and 2 images."),
        ({"image": "a", "messages": [USER, ASSISTANT]}, "got 0 markers and 1 images."),
        ({"image": 3, "conversations": [HUMAN, GPT]}, "'image' must be a list, got int."),
        ({"image": [3], "conversations": [HUMAN, GPT]}, "an image must be a path, got 3."),
        ({"image": [""], "conversations": [HUMAN, GPT]}, "an image must be a path, got ''."),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "got an empty one."),
        ({"messages": [USER, {"role": "assistant", "content": []}]}, "got an empty one."),
        (
            {"messages": [USER, USER]},
            "must be user and assistant in alternation, after an optional system turn, got user, "
            "user.",
        ),
        ({"messages": [ASSISTANT]}, "got assistant."),
        ({"messages": [USER, ASSISTANT, ASSISTANT]}, "got user, assistant, assistant."),
        ({"messages": [{"role": "system", "content": "a"}]}, "got system."),
        (
            {"messages": [USER, {"role": "system", "content": "a"}, ASSISTANT]},
            "got user, system, assistant.",
        ),
        ({"messages": []}, "got none."),
        (
            {"image": "a", "conversations": [USER | HUMAN, GPT | {"value": "<image>this"}]},
            "got 2 markers and 1 images.",
        ),
        (
            {"image": ["a", "b"], "conversations": [HUMAN, {"from": "gpt", "value": "<image>"}]},
            "images must be in user turns, got one in assistant's.",
        ),
        (
            {"messages": [{"role": "user", "content": "half of it: \ud83d"}, ASSISTANT]},
            "'text' must be text, got half of a surrogate pair in it.",
        ),
    ],
)
def test_says_in_one_sentence_what_is_wrong(record: Any, message: str) -> None:
    with pytest.raises(BadSampleError, match=re.escape(message)) as caught:
        _parse(record)
    place = "data.json:3" if isinstance(record, list | str) else "data.json:3 (sample '"
    assert str(caught.value).startswith(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"image": "a.png"}, ["a.png"]),
        ({"images": ["a.png", "b.png"]}, ["a.png", "b.png"]),
        ({"image": None, "images": ["a.png"]}, ["a.png"]),
        ({"messages": [{"content": [{"type": "image", "url": "a.png"}]}]}, ["a.png"]),
        ({"messages": [{"content": "<image>"}], "images": ["a.png"]}, ["a.png"]),
        ({"messages": [{"content": [{"type": "text", "text": "a"}]}]}, []),
        ({"messages": "hi", "image": 3}, []),
        ({"messages": [3, {"content": [3]}], "image": [3, ""]}, []),
        ([1, 2], []),
        (None, []),
    ],
)
def test_finds_image_names_in_whatever_it_is_given(record: Any, names: list[str]) -> None:
    assert image_names(record) == names


PLACES: Any = st.one_of(
    st.sampled_from(["a.png", "b.png", "/c.png"]).map(lambda path: {"type": "image", "path": path}),
    st.just({"type": "image"}),
    st.sampled_from(["is <image> it", "<image><image>", "yes"]).map(
        lambda text: {"type": "text", "text": text}
    ),
)
QUESTIONS: Any = st.one_of(st.lists(PLACES, min_size=1, max_size=4), st.just("<image>?"))


@given(st.lists(QUESTIONS, min_size=1, max_size=3), st.booleans())
def test_names_images_in_the_order_in_which_they_are_read(
    questions: list[Any], llava: bool
) -> None:
    text = json.dumps(questions)
    places = text.count("<image>") + text.count('{"type": "image"}')
    messages = [turn for q in questions for turn in ({"role": "user", "content": q}, ASSISTANT)]
    images = [f"{place}.png" for place in range(places)]
    record = {"messages": messages, "images": images if images else None}
    if llava:
        ask = {"from": "human", "value": "<image>" * places + "?"}
        record = {"conversations": [ask, GPT], "image": images, "messages": messages}
    read = [str(image.source) for image in _parse(record).images]
    assert [str(ROOT / name) for name in image_names(record)] == read
