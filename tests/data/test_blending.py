from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import BlendedConversations, JSONConversations
from lit_vlm.data.splitting import hold_out

WriteJSONL = Callable[..., Path]


def _record(name: str, images: list[str], question: str, answer: str) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": "<image>" * len(images) + f"\n{question}"},
        {"from": "gpt", "value": answer},
    ]
    return {"id": name, "image": images, "conversations": turns}


def _about(name: str, count: int) -> list[dict[str, Any]]:
    question = "What is in image 1?"
    return [_record(f"{name}{k}", [f"{name}.png"], question, f"{name}{k}") for k in range(count)]


def _pair(one: str, other: str) -> dict[str, Any]:
    images = [f"{one}.png", f"{other}.png"]
    return _record(f"{one}{other}", images, "Is image 2 like image 1?", "The second image is not.")


def _blend(
    write: WriteJSONL, dialogues: list[dict[str, Any]], pairs: list[dict[str, Any]], **options: Any
) -> BlendedConversations:
    source = BlendedConversations(
        JSONConversations(write(dialogues, "dialogues.jsonl")),
        JSONConversations(write(pairs, "pairs.jsonl"), on_bad_sample="skip", max_skipped=5),
        **options,
    )
    source.prepare()
    return source


def _names(source: BlendedConversations, index: int) -> list[str]:
    return [Path(str(image.source)).stem for image in source[index].images]


def test_each_image_is_spoken_of_before_both(write_jsonl: WriteJSONL) -> None:
    source = _blend(write_jsonl, [*_about("a", 1), *_about("b", 1)], [_pair("a", "b")])
    assert len(source) == 1
    assert (source.on_bad_sample, source.max_skipped) == ("skip", 5)
    dialogue = source[0]
    assert [turn.text.strip() for turn in dialogue.turns] == [
        "What is in image 1?",
        "a0",
        "What is in image 2?",
        "b0",
        "Is image 2 like image 1?",
        "The second image is not.",
    ]
    assert _names(source, 0) == ["a", "b"]
    assert [len([p for p in t.content if not isinstance(p, str)]) for t in dialogue.turns] == [
        *(1, 0, 1, 0, 0, 0)
    ]
    assert source.lengths().tolist() == [
        int(source.dialogues.lengths().sum() + source.pairs.lengths().sum())
    ]
    assert len(list(source.texts())) == 6


def test_the_last_image_need_not_have_dialogues(write_jsonl: WriteJSONL) -> None:
    pairs = [
        _pair("a", "new"),
        _pair("new", "a"),
        _pair("a", "a"),
        _record("x", ["a.png"], "?", "!"),
    ]
    source = _blend(write_jsonl, _about("a", 1), pairs)
    assert (len(source), source.num_left_out) == (1, 3)
    assert _names(source, 0) == ["a", "new"]
    last = source[0].turns[2]
    assert [isinstance(part, str) for part in last.content] == [False, True]
    assert last.text.strip() == "Is image 2 like image 1?"


def test_an_image_has_one_to_most_dialogues_without_repeats(write_jsonl: WriteJSONL) -> None:
    letters = "abcdefghijklmnopqrstuvwx"
    dialogues = [record for name in letters for record in _about(name, 4)]
    pairs = [_pair(one, other) for one, other in zip(letters[::2], letters[1::2], strict=True)]
    source = _blend(write_jsonl, dialogues, pairs, most=3)
    counts = set()
    for index in range(len(source)):
        answers = [t.text for t in source[index].turns if t.role == "assistant"][:-1]
        assert len(set(answers)) == len(answers)
        for name in _names(source, index):
            counts.add(sum(answer.startswith(name) for answer in answers))
    assert counts == {1, 2, 3}


def test_a_stranger_makes_a_pair_images_one_and_three(write_jsonl: WriteJSONL) -> None:
    dialogues = [record for name in "abcd" for record in _about(name, 1)]
    pairs = [_pair("a", "b"), _pair("c", "d")]
    source = _blend(write_jsonl, dialogues, pairs, strangers=1.0)
    for index, (own, others) in enumerate((("ab", "cd"), ("cd", "ab"))):
        one, stranger, other = _names(source, index)
        assert one + other == own
        assert stranger in others
        texts = [turn.text.strip() for turn in source[index].turns]
        assert texts[2:4] == ["What is in image 2?", f"{stranger}0"]
        assert texts[4:6] == ["What is in image 3?", f"{other}0"]
        assert texts[6:] == ["Is image 3 like image 1?", "The third image is not."]
        assert len(source.image_keys(index)) == 3
    alone = _blend(write_jsonl, [*_about("a", 1), *_about("b", 1)], pairs[:1], strangers=1)
    assert _names(alone, 0) == ["a", "b"]


def test_keys_are_in_the_order_of_the_images(write_jsonl: WriteJSONL) -> None:
    dialogues = [record for name in "abcdefgh" for record in _about(name, 2)]
    pairs = [_pair(*names) for names in ("ab", "cd", "ef", "gh")]
    source = _blend(write_jsonl, dialogues, pairs, strangers=0.5)
    key_of = {
        Path(str(source.dialogues[i].images[0].source)).stem: source.dialogues.image_keys(i)[0]
        for i in range(len(source.dialogues))
    }
    for index in range(len(source)):
        assert list(source.image_keys(index)) == [key_of[n] for n in _names(source, index)]


def test_strangers_never_carry_a_held_out_image_into_training(write_jsonl: WriteJSONL) -> None:
    names = [f"p{i:02}" for i in range(40)]
    dialogues = [record for name in names for record in _about(name, 2)]
    pairs = [_pair(*both) for both in zip(names[::2], names[1::2], strict=True)]
    source = _blend(write_jsonl, dialogues, pairs, strangers=1.0)
    parts = hold_out([source], {"val": 0.3}, seed=0)[0]
    shown = {
        name: {str(image.source) for i in range(len(part)) for image in part[i].images}
        for name, part in parts.items()
    }
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "val": 6}
    assert not shown["train"] & shown["val"]
    assert {len(part[i].images) for part in parts.values() for i in range(len(part))} == {3}


def test_the_seed_chooses(write_jsonl: WriteJSONL) -> None:
    dialogues = [record for name in "abcd" for record in _about(name, 9)]
    pairs = [_pair("a", "b"), _pair("c", "d")]
    made = [_blend(write_jsonl, dialogues, pairs, most=9, seed=seed) for seed in (0, 0, 1)]
    ids = [[source[i].id for i in range(2)] for source in made]
    assert ids[0] == ids[1] != ids[2]


def test_refuses_pairs_of_other_images(write_jsonl: WriteJSONL) -> None:
    message = "BlendedConversations: dialogues must be about the images of the pairs, got none for"
    with pytest.raises(BadSampleError, match=message):
        _blend(write_jsonl, _about("a", 1), [_pair("b", "c")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": 0}, "BlendedConversations: most must be at least 1, got 0"),
        ({"strangers": 1.5}, "strangers must be a share from 0 to 1, got 1.5"),
        ({"strangers": -1}, "strangers must be a share from 0 to 1, got -1"),
    ],
)
def test_refuses_arguments_out_of_range(
    write_jsonl: WriteJSONL, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _blend(write_jsonl, _about("a", 1), [_pair("a", "b")], **options)
