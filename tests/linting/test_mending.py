import copy
from typing import Any

import pytest

from lit_vlm.linting.mending import MENDS, mend

ASK = {"from": "human", "value": "<image>?"}
SAY = {"from": "gpt", "value": "a cat"}


def dialogue(*turns: Any, **keys: Any) -> dict[str, Any]:
    return {"conversations": list(turns), **keys}


def chat(content: Any, role: str = "assistant") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": role, "content": content}]}


@pytest.mark.parametrize(
    ("record", "mended", "name"),
    [
        (
            {"conversations": '[{"from": "human", "value": "?"}]'},
            dialogue({"from": "human", "value": "?"}),
            "string_to_list",
        ),
        (
            dialogue(ASK, SAY, images="a.png"),
            dialogue(ASK, SAY, images=["a.png"]),
            "string_to_list",
        ),
        (dialogue(boxes=[1, 2, 3, 4]), dialogue(boxes=[[1, 2, 3, 4]]), "string_to_list"),
        (dialogue(boxes="[[1, 2, 3, 4]]"), dialogue(boxes=[[1, 2, 3, 4]]), "string_to_list"),
        (
            dialogue(ASK, SAY, image='["a.png"]'),
            dialogue(ASK, SAY, image=["a.png"]),
            "string_to_list",
        ),
        (
            dialogue(ASK, SAY, images='["a.png"]'),
            dialogue(ASK, SAY, images=["a.png"]),
            "string_to_list",
        ),
        (dialogue(answers='["x", "y"]'), dialogue(answers=["x", "y"]), "string_to_list"),
        (dialogue(answers="a cat"), dialogue(answers=["a cat"]), "string_to_list"),
        (
            dialogue(ASK, {"from": "gpt", "value": ["a cat"]}),
            dialogue(ASK, SAY),
            "list_to_string",
        ),
        (
            chat([{"type": "text", "text": ["a"]}]),
            chat([{"type": "text", "text": "a"}]),
            "list_to_string",
        ),
        (
            dialogue(
                {"from": "User", "value": "<image>?"}, {"from": " assistant", "value": "a cat"}
            ),
            dialogue(ASK, SAY),
            "role_name",
        ),
        (chat("a", "GPT"), chat("a"), "role_name"),
        (dialogue(ASK, {"from": "gpt", "value": " a cat\n"}), dialogue(ASK, SAY), "trimmed_answer"),
        (chat(" a"), chat("a"), "trimmed_answer"),
        (
            chat([{"type": "text", "text": " a "}, {"type": "text", "text": " b "}]),
            chat([{"type": "text", "text": "a "}, {"type": "text", "text": " b"}]),
            "trimmed_answer",
        ),
        (
            dialogue(ASK, SAY, {"from": "human", "value": "and?"}),
            dialogue(ASK, SAY),
            "dropped_question",
        ),
    ],
)
def test_mends_what_leaves_nothing_to_guess(record: Any, mended: Any, name: str) -> None:
    before = copy.deepcopy(record)
    assert mend(record) == (mended, [name])
    assert record == before
    assert mend(mended) == (mended, [])
    assert name in MENDS


@pytest.mark.parametrize(
    "record",
    [
        "text",
        {"text": "?"},
        {"conversations": "who knows"},
        {"conversations": '{"from": "human"}'},
        dialogue(ASK, SAY),
        dialogue(ASK, {"from": "gpt", "value": ["a", "cat"]}),
        dialogue({"from": "bot", "value": "?"}),
        dialogue({"from": "human", "value": " ? "}, SAY),
        dialogue(ASK, SAY, ASK),
        dialogue(ASK, SAY, {"from": "human", "value": "<bbox>?"}),
        dialogue(ASK),
        dialogue(ASK, SAY, image="a.png"),
        dialogue("not a turn"),
        dialogue(ASK, SAY, answers="['x', 'y']"),
        dialogue(ASK, SAY, answers=' ["x", "y"'),
        dialogue(ASK, SAY, images="['a.png']"),
        dialogue(ASK, SAY, image="[1].png"),
    ],
)
def test_leaves_alone_what_is_good_or_would_be_guessed(record: Any) -> None:
    assert mend(record) == (record, [])


def test_keeps_the_last_question_where_nothing_is_answered() -> None:
    record = dialogue(ASK, SAY, {"from": "human", "value": "and?"})
    assert mend(record, asks_only=True) == (record, [])


def test_names_each_mend_once() -> None:
    record = dialogue({"from": "user", "value": ["?"]}, {"from": "assistant", "value": [" a cat "]})
    mended, done = mend(record)
    assert mended == dialogue({"from": "human", "value": "?"}, SAY)
    assert done == ["list_to_string", "role_name", "trimmed_answer"]
