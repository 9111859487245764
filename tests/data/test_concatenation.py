import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.conversation import BadSampleError, ImageContent
from lit_vlm.data import ConcatenatedConversations, JSONConversations
from lit_vlm.data.splitting import hold_out
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE, VisualChat

WriteJSONL = Callable[..., Path]


def _records(number: int, images: Callable[[int], int] = lambda _: 1) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for i in range(number):
        names = [f"{i}-{k}.png" for k in range(images(i))]
        turns = [
            {"from": "human", "value": "<image>" * len(names) + f"question {i}"},
            {"from": "gpt", "value": f"answer {i}"},
        ]
        records.append({"id": f"{i}", "image": names, "conversations": turns})
    return records


def _source(path: Path, **options: Any) -> ConcatenatedConversations:
    source = ConcatenatedConversations(JSONConversations(path), **options)
    source.prepare()
    return source


def test_every_dialogue_is_there_once_in_groups_of_every_size(write_jsonl: WriteJSONL) -> None:
    source = _source(write_jsonl(_records(300)), most=3)
    dialogues = [source[i] for i in range(len(source))]
    answers = [t.text for d in dialogues for t in d.turns if t.role == "assistant"]
    assert sorted(answers) == sorted(f"answer {i}" for i in range(300))
    assert answers != sorted(answers)
    sizes = Counter(len(dialogue.images) for dialogue in dialogues)
    assert set(sizes) == {1, 2, 3}
    assert all(0.25 < count / len(source) < 0.42 for count in sizes.values())
    for index, dialogue in enumerate(dialogues):
        names = [Path(str(image.source)).name for image in dialogue.images]
        questions = [t.text for t in dialogue.turns if t.role == "user"]
        assert [f"question {name.partition('-')[0]}" for name in names] == questions
        assert len(source.image_keys(index)) == len(dialogue.images)
        assert len(set(source.image_keys(index))) == len(dialogue.images)
    assert int(source.lengths().sum()) == int(source.source.lengths().sum())
    assert len(source.lengths()) == len(source)
    assert sorted(source.texts()) == sorted(t.text for d in dialogues for t in d.turns)


def test_the_seed_chooses_the_groups(write_jsonl: WriteJSONL) -> None:
    path = write_jsonl(_records(40))
    one, again, other = (_source(path, seed=seed) for seed in (0, 0, 1))
    ids = [[source[i].id for i in range(len(source))] for source in (one, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_dialogues_with_no_image_or_several_stay_as_they_are(write_jsonl: WriteJSONL) -> None:
    source = _source(write_jsonl(_records(30, images=lambda i: i % 3)), most=4)
    dialogues = [source[i] for i in range(len(source))]
    assert Counter(d.id for d in dialogues if "+" not in d.id)["0"] == 1
    inside = [number for dialogue in dialogues for number in dialogue.id.split("+")]
    assert sorted(inside, key=int) == [str(i) for i in range(30)]
    for dialogue in dialogues:
        if "+" in dialogue.id:
            assert all(int(number) % 3 == 1 for number in dialogue.id.split("+"))
    assert len(_source(write_jsonl(_records(5, images=lambda _: 0)))) == 5


def test_visual_chat_numbers_the_images_in_order(write_jsonl: WriteJSONL) -> None:
    source = _source(write_jsonl(_records(60)), most=3)
    tokenizer = train_bpe(["a"], 258)
    for index in range(len(source)):
        written = VisualChat(system="").segments(source[index].turns, tokenizer)
        text = "".join("@" if segment == IMAGE else segment.text for segment in written)
        numbers = re.findall(r"### Image (\d+):\n@", text)
        assert numbers == [str(k + 1) for k in range(len(source[index].images))]
        assert text.count("### Image") == len(numbers)


def test_no_image_is_on_both_sides_when_a_share_is_held_out(write_jsonl: WriteJSONL) -> None:
    records = _records(60)
    for i, record in enumerate(records):
        record["image"] = [f"{i // 3}.png"]  # three dialogues about each
    source = _source(write_jsonl(records), most=3)
    parts = hold_out([source], {"val": 0.2, "selection": 0.2}, seed=3)[0]
    keys = {
        name: {key for i in range(len(part)) for key in part.image_keys(i)}
        for name, part in parts.items()
    }
    assert {name: len(found) for name, found in keys.items()} == {
        "train": 12,
        "val": 4,
        "selection": 4,
    }
    assert len(set.union(*keys.values())) == 20
    answers = [
        turn.text
        for part in parts.values()
        for i in range(len(part))
        for turn in part[i].turns
        if turn.role == "assistant"
    ]
    assert sorted(answers) == sorted(f"answer {i}" for i in range(60))
    for part in parts.values():
        assert part.source is source
        assert len(part.lengths()) == len(part)
        assert any(len(part[i].images) > 1 for i in range(len(part)))
        assert set(part.texts()) >= {turn.text for turn in part[0].turns}
    again = hold_out([source], {"val": 0.2, "selection": 0.2}, seed=3)[0]
    assert [again["val"][i] for i in range(len(again["val"]))] == [
        parts["val"][i] for i in range(len(parts["val"]))
    ]


def test_a_bad_dialogue_is_named_and_its_group_follows_the_sources_choice(
    write_jsonl: WriteJSONL,
) -> None:
    path = write_jsonl(_records(3))
    lines = path.read_text().splitlines()
    broken = json.loads(lines[1])
    broken["conversations"][1]["value"] = " "
    path.write_text("\n".join([lines[0], json.dumps(broken), lines[2]]) + "\n")
    inside = JSONConversations(path, on_bad_sample="skip", max_skipped=7)
    source = ConcatenatedConversations(inside, most=1)
    source.prepare()
    assert (source.on_bad_sample, source.max_skipped) == ("skip", 7)
    place = next(i for i in range(3) if source.image_keys(i) == inside.image_keys(1))
    with pytest.raises(BadSampleError, match=r"data\.jsonl:2 \(sample '1'\): an answer must have"):
        source[place]


def test_a_single_dialogue_is_left_as_it_is(write_jsonl: WriteJSONL) -> None:
    source = _source(write_jsonl(_records(1)))
    assert len(source) == 1
    assert source[0] == source.source[0]
    assert isinstance(source[0].turns[0].content[0], ImageContent)


def test_refuses_empty_groups(write_jsonl: WriteJSONL) -> None:
    with pytest.raises(
        ValueError, match="ConcatenatedConversations: most must be at least 1, got 0"
    ):
        _source(write_jsonl(_records(1)), most=0)
