import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.parsing import parse_conversation
from lit_vlm.linting.forms import check_form
from lit_vlm.linting.problems import ABOUT

QUESTION = {"from": "human", "value": "<image>what?"}
ANSWER = {"from": "gpt", "value": "a cat"}
USER = {"role": "user", "content": [{"type": "image", "path": "a.png"}]}
ASSISTANT = {"role": "assistant", "content": "a cat"}
LONE = "\ud800"


def llava(*turns: Any, **keys: Any) -> dict[str, Any]:
    return {"id": "1", "image": "a.png", "conversations": list(turns), **keys}


def messages(*turns: Any, **keys: Any) -> dict[str, Any]:
    return {"id": "1", "messages": list(turns), **keys}


def kinds(record: Any, **options: Any) -> list[str]:
    found = check_form(record, **{"max_answer_words": 5, **options})
    assert all(finding.kind in ABOUT for finding in found)
    return [finding.kind for finding in found]


@pytest.mark.parametrize(
    "record",
    [
        llava(QUESTION, ANSWER),
        llava({"from": "system", "value": "be brief"}, QUESTION, ANSWER),
        llava({"from": "human", "value": "<image>"}, ANSWER, images="ignored"),
        messages(USER, ASSISTANT),
        messages({"role": "user", "content": "why <image>?"}, ASSISTANT),
        messages({"role": "user", "content": "<image>?"}, ASSISTANT, images=["a.png"]),
        llava(QUESTION, {"from": "gpt", "value": "<box>(1,2),(1000,4)</box>"}),
        llava(QUESTION, {"from": "gpt", "value": "at <bbox>"}, boxes=[[0, 0, 1.5, 2]]),
    ],
)
def test_finds_nothing_in_a_good_sample(record: Any) -> None:
    assert kinds(record) == []


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (["a list"], "wrong_type"),
        ({"id": "1", "text": "?"}, "no_dialogue"),
        (llava(), "no_dialogue"),
        ({"id": "1", "conversations": "a: b"}, "string_for_list"),
        ({"id": "1", "conversations": None}, "wrong_type"),
        ({"id": "1", "messages": {"role": "user"}}, "wrong_type"),
        (llava("what?", ANSWER, image=None), "wrong_type"),
        (llava(QUESTION, {"from": "gpt", "value": ["a cat"]}), "list_for_string"),
        (llava(QUESTION, {"from": "gpt"}), "wrong_type"),
        (llava(QUESTION, ANSWER, image=[7]), "wrong_type"),
        (llava(QUESTION, ANSWER, image=""), "wrong_type"),
        (llava(QUESTION, ANSWER, image={"path": "a.png"}), "wrong_type"),
        (messages({"role": "user", "content": ["hello"]}, ASSISTANT), "wrong_type"),
        (messages({"role": "user", "content": 3}, ASSISTANT), "wrong_type"),
        (messages({"role": "user", "content": [{"type": "video"}]}, ASSISTANT), "wrong_type"),
        (messages(USER, ASSISTANT, boxes="[1, 2, 3, 4]"), "string_for_list"),
        (messages(USER, ASSISTANT, boxes=[1, 2, 3, 4]), "wrong_type"),
        (messages(USER, ASSISTANT, answers="a cat"), "string_for_list"),
        (llava(QUESTION, ANSWER, image='["a.png"]'), "string_for_list"),
        (llava(QUESTION, ANSWER, image=None, images="['a.png']"), "string_for_list"),
        (messages(USER, ASSISTANT, boxes=[[1, 2, 3, float("inf")]]), "wrong_type"),
        (llava({"from": "user", "value": "<image>?"}, ANSWER), "unknown_role"),
        (messages({"role": "human", "content": "?"}, ASSISTANT), "unknown_role"),
        (llava(ANSWER, QUESTION), "misordered_roles"),
        (llava(QUESTION, QUESTION, ANSWER, image=["a", "b"]), "misordered_roles"),
        (llava({"from": "system", "value": "be brief"}, image=None), "misordered_roles"),
        (llava({"from": "human", "value": "<image><image>"}, ANSWER), "too_few_images"),
        (llava(QUESTION, ANSWER, image=None), "too_few_images"),
        (messages({"role": "user", "content": [{"type": "image"}]}, ASSISTANT), "too_few_images"),
        (llava(QUESTION, ANSWER, image=["a.png", "b.png"]), "too_many_images"),
        (messages(USER, ASSISTANT, images=["b.png"]), "too_many_images"),
        (
            llava({"from": "human", "value": "?"}, {"from": "gpt", "value": "a <image> b"}),
            "image_outside_question",
        ),
        (llava(QUESTION, {"from": "gpt", "value": LONE}), "broken_text"),
        (llava(QUESTION, {"from": "gpt", "value": " \n"}), "empty_answer"),
        (llava(QUESTION), "no_answer"),
        (llava(QUESTION, {"from": "gpt", "value": "<bbox>"}, boxes=[]), "box_count"),
        (llava(QUESTION, {"from": "gpt", "value": "<bbox>"}), "box_count"),
        (llava(QUESTION, ANSWER, boxes=[[0, 0, 1, 1]]), "box_count"),
        (
            llava(QUESTION, {"from": "gpt", "value": "<bbox>"}, boxes=[[5, 0, 1, 1]]),
            "box_inverted",
        ),
        (
            llava(QUESTION, {"from": "gpt", "value": "<bbox>"}, boxes=[[0, 0, 10**400, 1]]),
            "box_outside",
        ),
        (llava(QUESTION, {"from": "gpt", "value": "<box>(1,2),(1001,4)</box>"}), "box_text"),
        (llava(QUESTION, {"from": "gpt", "value": "<box>(9,2),(8,4)</box>"}), "box_text"),
        (llava(QUESTION, {"from": "gpt", "value": "<box>here</box>"}), "box_text"),
        (llava(QUESTION, {"from": "gpt", "value": "<box>(1,2),(3,4)</box> <box>(1,2"}), "box_text"),
        (llava(QUESTION, ANSWER, answers=[]), "empty_answers"),
        (llava(QUESTION, ANSWER, messages=[USER, ASSISTANT]), "two_forms"),
        (llava(QUESTION, ANSWER, image=None, images="a.png"), "bare_images"),
        (llava(QUESTION, ANSWER, {"from": "human", "value": "and?"}), "trailing_question"),
        (messages({"role": "user", "content": " "}, ASSISTANT), "empty_question"),
        (llava(QUESTION, {"from": "gpt", "value": "a cat\n"}), "surplus_space"),
        (llava(QUESTION, {"from": "gpt", "value": "one two three four five six"}), "long_answer"),
        (llava(QUESTION, ANSWER, id=None), "missing_id"),
    ],
)
def test_names_each_kind_of_problem(record: Any, kind: str) -> None:
    assert kinds(record) == [kind]


def test_finds_all_that_is_wrong_and_not_only_the_first() -> None:
    turns = ({"from": "User", "value": "<image>"}, {"from": "gpt", "value": ""}, {"from": "gpt"})
    found = check_form(llava(*turns, image=["a.png", "b.png"], id=None), 5)
    assert [finding.kind for finding in found] == [
        "unknown_role",
        "wrong_type",
        "empty_answer",
        "missing_id",
    ]
    assert found[0].message == "turn 1: 'from' must be one of system, human, gpt, got 'User'"


def test_lets_questions_stand_alone_where_none_is_answered() -> None:
    assert kinds(llava(QUESTION), asks_only=True) == []


TEXTS: Any = st.sampled_from(
    ["", " ", "a", "<image>", "<image>b", "<bbox>", ["a"], None, 3, "\udc00"]
)
PATHS: Any = st.sampled_from(["a.png", "", None, 3])
PARTS: Any = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image", "x"])}, optional={"text": TEXTS, "path": PATHS}
    ),
    st.just("a"),
)
LISTED: Any = st.one_of(st.lists(PATHS, max_size=2), PATHS)
ROLES: Any = st.sampled_from(["system", "human", "gpt", "user", "assistant", None])
SPOKEN: Any = st.fixed_dictionaries({"from": ROLES}, optional={"value": TEXTS})
SENT: Any = st.fixed_dictionaries(
    {"role": ROLES}, optional={"content": st.one_of(TEXTS, st.lists(PARTS, max_size=2))}
)
BOXES: Any = st.sampled_from(
    [
        None,
        "[]",
        [],
        [[0, 0, 1, 1]],
        [[0, 0, 0, 1]],
        [0, 0, 1, 1],
        [[True] * 4],
        [[0, 0, 10**400, 1]],
    ]
)
ANSWERS: Any = st.sampled_from([None, "a", ["a"]])
LISTS: Any = {
    "image": LISTED,
    "images": LISTED,
    "boxes": BOXES,
    "box_images": st.just([0]),
    "answers": ANSWERS,
}
RECORDS: Any = st.one_of(
    st.fixed_dictionaries({"conversations": st.lists(SPOKEN, max_size=3)}, optional=LISTS),
    st.fixed_dictionaries({"messages": st.lists(SENT, max_size=3)}, optional=LISTS),
    st.fixed_dictionaries({"messages": TEXTS}, optional=LISTS),
)


@given(RECORDS)
def test_finds_an_error_exactly_where_the_reader_refuses(record: Any) -> None:
    # But for a missing answer, which the reader leaves to training.
    errors = [f for f in check_form(record, 5) if f.is_error and f.kind != "no_answer"]
    refusal = ""
    try:
        parse_conversation(record, where="", image_root=Path(), default_id="")
    except BadSampleError as error:
        refusal = str(error)
    # What says which image a box is in is left to the reader.
    assert bool(errors) == bool(refusal) or "box" in refusal, (json.dumps(record), refusal)
