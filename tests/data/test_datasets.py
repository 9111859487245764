import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lit_vlm.conversation import BadSampleError, BoxContent, Conversation, ImageContent, Turn
from lit_vlm.data import JSONConversations
from lit_vlm.data.datasets import ConversationDataset, Purpose, Sight, join
from lit_vlm.data.sampling import Slot
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import Plain

TOKENIZER = train_bpe(["what color? red or blue"], 280)
MEAN = (7, 8, 9)
PROCESSOR = Processor(TOKENIZER, Plain(), (4, 4), 2, "stretch", MEAN, max_length=60)


def _record(question: str, answer: str | None, *images: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "<image>" * len(images) + question}]
    messages += [] if answer is None else [{"role": "assistant", "content": answer}]
    return {"messages": messages, "images": list(images)}


@pytest.fixture
def make(tmp_path: Path, write_jsonl: Callable[..., Path]) -> Callable[..., ConversationDataset]:
    """Make a data set of records; the picture ``17.png`` is grey of that shade."""
    for shade in range(0, 100, 10):
        Image.new("RGB", (4, 4), (shade,) * 3).save(tmp_path / f"{shade}.png")

    def make_dataset(
        *sources: list[dict[str, Any]],
        purpose: Purpose = "train",
        sight: Sight = "real",
        seed: int = 0,
        on_bad_sample: Any = "error",
        processor: Processor = PROCESSOR,
    ) -> ConversationDataset:
        prepared = []
        for i, records in enumerate(sources):
            path = write_jsonl(records, f"source-{i}.jsonl")
            prepared.append(JSONConversations(path, on_bad_sample=on_bad_sample))
            prepared[-1].prepare()
        return ConversationDataset(prepared, processor, purpose, sight, seed)

    return make_dataset


def _shades(dataset: ConversationDataset, index: int) -> list[int]:
    (row,) = dataset[[Slot((index,))]]
    return [int(image[0, 0, 0]) for image in row.pixels]


GOOD = [_record("a?", "red", "10.png"), _record("b?", "blue", "20.png"), _record("c?", "no")]


def test_encodes_what_the_purpose_needs(make: Callable[..., ConversationDataset]) -> None:
    given: dict[Purpose, tuple[bool, bool]] = {
        "train": (True, False),
        "evaluate": (True, True),
        "predict": (False, True),
    }
    for purpose, (whole, prompt) in given.items():
        (row,) = make(GOOD, purpose=purpose)[[Slot((1,))]]
        assert (row.encoded is not None, row.prompt is not None) == (whole, prompt)
        assert row.reference.answer == "blue"
        assert row.reference.index == 1
        assert row.reference.dialogue.turns[-1].text == "b?"


def test_sources_come_one_after_another(make: Callable[..., ConversationDataset]) -> None:
    dataset = make(GOOD[:1], GOOD[1:])
    assert len(dataset) == 3
    rows = dataset[[Slot((i,)) for i in (2, 0, 1)]]
    assert [row.reference.dialogue.id for row in rows] == [
        "source-1-1",
        "source-0-0",
        "source-1-0",
    ]
    assert [len(row.pixels) for row in rows] == [0, 1, 1]


def test_a_repeated_row_supervises_nothing(make: Callable[..., ConversationDataset]) -> None:
    row, spare = make(GOOD)[[Slot((0,)), Slot((0,), repeated=True)]]
    assert row.encoded is not None
    assert spare.encoded is not None
    assert spare.encoded.input_ids == row.encoded.input_ids
    assert set(spare.encoded.labels) == {IGNORED}
    assert spare.reference.repeated


def test_questions_about_one_image_are_joined(make: Callable[..., ConversationDataset]) -> None:
    records = [_record("a?", "red", "10.png"), _record("b?", "no", "10.png")]
    (row,) = make(records)[[Slot((1, 0))]]
    assert row.encoded is not None
    assert len(row.pixels) == 1
    assert sum(row.encoded.is_visual) == 2
    spoken = [label for label in row.encoded.labels if label != IGNORED]
    assert TOKENIZER.decode(spoken) == "no<|end|>red<|end|>"


def test_joining_shows_images_and_says_the_system_turn_once() -> None:
    picture = ImageContent("a.png")
    system = Turn("system", ("Look.",))
    first = (system, Turn("user", (picture, "a?")), Turn("assistant", ("red",)))
    other = (system, Turn("user", ("b, ", picture, "?")), Turn("assistant", ("no",)))
    joined = join([Conversation("1", first, "x:1"), Conversation("2", other, "x:2")])
    turns = (*first, Turn("user", ("b, ", "?")), Turn("assistant", ("no",)))
    assert joined == Conversation("1", turns)
    assert joined.where == "x:1"
    assert join([joined]) == joined


def test_joining_leaves_boxes_in_their_images() -> None:
    one, two = ImageContent("a.png"), ImageContent("b.png")
    box, end = BoxContent((0, 0, 2, 2)), Turn("assistant", ("no",))
    first = (Turn("user", (one, two, "a?")), Turn("assistant", (box,)))
    other = (Turn("user", (one, box, two, box)), end)
    joined = join([Conversation("1", first), Conversation("2", other, answers=("no", "yes"))])
    assert joined.images == (one, two)
    assert joined.turns[1].content == (BoxContent((0, 0, 2, 2), 1),)
    assert joined.turns[2].content == (
        BoxContent((0, 0, 2, 2), 0),
        BoxContent((0, 0, 2, 2), 1),
    )
    assert joined.answers == ("no", "yes")


@pytest.mark.parametrize("sight", ["real", "shuffled", "blank"])
def test_boxes_are_words_of_the_samples_own_picture_in_every_sight(
    make: Callable[..., ConversationDataset], sight: Sight
) -> None:
    boxed = {**_record("where?", "<bbox>", "10.png"), "boxes": [[0, 1, 2, 4]], "answers": ["it"]}
    data = make([boxed, _record("what?", "red", "90.png")], purpose="evaluate", sight=sight)
    (row,) = data[[Slot((0,))]]
    assert row.reference.answer == "<box>(0,250),(500,1000)</box>"
    assert row.reference.dialogue.answers == ("it",)
    assert row.encoded is not None
    spoken = [label for label in row.encoded.labels if label != IGNORED]
    assert TOKENIZER.decode(spoken) == f"{row.reference.answer}<|end|>"
    shade = {"real": 10, "shuffled": 90, "blank": MEAN[0]}[sight]
    assert int(row.pixels[0][0, 0, 0]) == shade


def test_a_box_outside_its_picture_can_be_skipped(
    make: Callable[..., ConversationDataset],
) -> None:
    outside = {**_record("where?", "<bbox>", "10.png"), "boxes": [[0, 1, 2, 9]]}
    data = make([outside, _record("what?", "red", "90.png")], on_bad_sample="skip")
    (row,) = data[[Slot((0,))]]
    assert row.reference.answer == "red"
    [skipped] = row.skipped
    assert "a box must be inside its picture, which has 4 x 4 pixels" in skipped.reason


def test_shuffled_samples_see_another_samples_images(
    make: Callable[..., ConversationDataset],
) -> None:
    records = [_record(f"{i}?", "no", f"{10 * (i // 4)}.png") for i in range(24)]
    for seed in range(5):
        dataset = make(records, purpose="evaluate", sight="shuffled", seed=seed)
        seen = [_shades(dataset, i) for i in range(24)]
        assert all(len(shades) == 1 for shades in seen)
        assert all(shade != 10 * (i // 4) for i, (shade,) in enumerate(seen))
        again = make(records, purpose="evaluate", sight="shuffled", seed=seed)
        assert [_shades(again, i) for i in range(24)] == seen
        assert len({shade for (shade,) in seen}) > 2


def test_no_image_of_a_shuffled_sample_is_its_own(
    make: Callable[..., ConversationDataset],
) -> None:
    shown = [["10.png"], ["10.png", "20.png"], ["30.png"], [], ["20.png", "10.png", "40.png"]]
    records = [_record("a?", "no", *images) for images in shown]
    for seed in range(8):
        dataset = make(records, purpose="evaluate", sight="shuffled", seed=seed)
        for i, images in enumerate(shown):
            shades = _shades(dataset, i)
            assert len(shades) == len(images)
            assert not {f"{shade}.png" for shade in shades} & set(images)


def test_shuffling_needs_two_images(make: Callable[..., ConversationDataset]) -> None:
    records = [_record("a?", "no", "10.png"), _record("b?", "no", "10.png"), GOOD[2]]
    message = (
        r"probe 'shuffled' must find other images for each sample, but all samples with images "
        r"share some with .*source-0\.jsonl:1 \(sample 'source-0-0'\)\. Leave it out of probes\."
    )
    with pytest.raises(ValueError, match=message):
        make(records, purpose="evaluate", sight="shuffled")


def test_without_images_there_is_nothing_to_shuffle(
    make: Callable[..., ConversationDataset],
) -> None:
    assert _shades(make(GOOD[2:], purpose="evaluate", sight="shuffled"), 0) == []


def test_blank_images_are_the_mean_colour(make: Callable[..., ConversationDataset]) -> None:
    records = [_record("a?", "no", "10.png", "20.png"), GOOD[2]]
    first, second = make(records, purpose="evaluate", sight="blank")[[Slot((0,)), Slot((1,))]]
    expected = torch.tensor(MEAN, dtype=torch.uint8).reshape(3, 1, 1).expand(3, 4, 4)
    assert [torch.equal(image, expected) for image in first.pixels] == [True, True]
    assert second.pixels == []


MISSING = _record("what?", "red", "gone.png")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (MISSING, r"source-0\.jsonl:2 \(sample 'source-0-1'\): there is no image .*/gone\.png\."),
        (_record("a?", None), r"source-0\.jsonl:2 .*: must have an answer to learn from, got none"),
        (_record("a?", " "), r"source-0\.jsonl:2 .*: an answer must have text, got an empty one"),
        (_record("a? " * 60, "no"), r"source-0\.jsonl:2 .*: the answer must not be cut away"),
        (
            _record("a?", "no", *["10.png"] * 40),
            r"source-0\.jsonl:2 .*: visual tokens must not be cut",
        ),
        ({"conversations": "hi"}, r"source-0\.jsonl:2 .*: 'conversations' must be a list"),
    ],
)
def test_a_bad_sample_stops_the_run_or_is_replaced_and_named(
    make: Callable[..., ConversationDataset], bad: dict[str, Any], reason: str
) -> None:
    records = [GOOD[0], bad, GOOD[1]]
    with pytest.raises(BadSampleError, match=reason):
        make(records)[[Slot((1,))]]
    row, other = make(records, on_bad_sample="skip")[[Slot((1,)), Slot((0,))]]
    assert row.reference.index == 2
    (skipped,) = row.skipped
    assert (skipped.index, skipped.source) == (1, 0)
    with pytest.raises(BadSampleError, match=reason):
        raise BadSampleError(skipped.reason)
    assert other.skipped == ()


def test_bad_samples_one_after_another_are_all_named(
    make: Callable[..., ConversationDataset],
) -> None:
    (row,) = make([GOOD[0], MISSING, MISSING], on_bad_sample="skip")[[Slot((1,))]]
    assert row.reference.index == 0
    assert [skipped.index for skipped in row.skipped] == [1, 2]


def test_stops_if_no_sample_is_good(make: Callable[..., ConversationDataset]) -> None:
    dataset = make([MISSING, MISSING], on_bad_sample="skip")
    with pytest.raises(BadSampleError, match=r"there is no image"):
        dataset[[Slot((0,))]]


def test_only_the_bad_one_of_joined_samples_is_left_out(
    make: Callable[..., ConversationDataset],
) -> None:
    records = [_record("a?", "no", "10.png"), _record("b?", " ", "10.png"), GOOD[1]]
    (row,) = make(records, on_bad_sample="skip")[[Slot((0, 1))]]
    assert row.reference.index == 0
    assert [skipped.index for skipped in row.skipped] == [1]
    assert row.encoded is not None
    spoken = [label for label in row.encoded.labels if label != IGNORED]
    assert TOKENIZER.decode(spoken) == "no<|end|>"


@pytest.mark.parametrize("purpose", ["evaluate", "predict"])
def test_what_stands_in_for_a_bad_sample_is_not_scored_twice(
    make: Callable[..., ConversationDataset], purpose: Purpose
) -> None:
    dataset = make([MISSING, GOOD[1]], purpose=purpose, on_bad_sample="skip")
    rows = dataset[[Slot((0,)), Slot((1,))]]
    assert [row.reference.index for row in rows] == [1, 1]
    assert [row.reference.repeated for row in rows] == [True, False]
    (trained,) = make([MISSING, GOOD[1]], on_bad_sample="skip")[[Slot((0,))]]
    assert not trained.reference.repeated


def test_scores_nothing_without_an_answer(make: Callable[..., ConversationDataset]) -> None:
    waiting = _record("a?", "no")
    waiting["messages"].append({"role": "user", "content": "sure?"})
    message = r"source-0\.jsonl:1 .*: must end with an answer to compare with, got a user turn"
    with pytest.raises(BadSampleError, match=message):
        make([waiting], purpose="evaluate")[[Slot((0,))]]
    (row,) = make([waiting], purpose="predict")[[Slot((0,))]]
    assert row.reference.answer == ""
    (trained,) = make([waiting])[[Slot((0,))]]
    assert trained.encoded is not None


def test_what_people_answered_is_enough_to_compare_with(
    make: Callable[..., ConversationDataset],
) -> None:
    asked = {**_record("a?", None, "10.png"), "answers": ["red", "blue"]}
    (row,) = make([asked], purpose="evaluate")[[Slot((0,))]]
    assert (row.reference.answer, row.reference.answers) == ("", ("red", "blue"))
    assert row.encoded is not None
    assert row.prompt is not None
    assert row.encoded.input_ids == row.prompt.input_ids
    assert set(row.encoded.labels) == {IGNORED}
    with pytest.raises(BadSampleError, match="must have an answer to learn from"):
        make([asked])[[Slot((0,))]]


def test_travels_to_workers_without_the_samples(make: Callable[..., ConversationDataset]) -> None:
    records = [_record("a? " * 100, "no", f"{i}.png") for i in range(500)]
    small, large = (
        len(pickle.dumps(make(some, purpose="evaluate", sight="shuffled")))
        for some in (records[:250], records)
    )
    # Numbers of 8 bytes: three for a sample's place, one for its keys' end, a key, a donor.
    assert large - small < 250 * 6 * 8 + 200
