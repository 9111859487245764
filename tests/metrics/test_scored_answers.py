import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import distributed

from lit_vlm.class_names import import_class
from lit_vlm.metrics import (
    ANLS,
    POPE,
    AnswerAccuracy,
    AnswerMetric,
    BoxAccuracy,
    CIDEr,
    ExactMatch,
    MultipleChoice,
    RelaxedAccuracy,
    ScoredAnswers,
    VQAAccuracy,
)
from lit_vlm.prompts import PlainBoxes

YES_OR_NO = ("yes", "no", "yes", "yes")
LETTERS = ("A", "B", "A", "C")
WORDS = ("a red dog", "a cat sits", "two dogs", "nothing")
NUMBERS = ("3", "40%", "0", "x")
BOXES = ("[0.0,0.0,0.5,0.5]", "[0.0,0.0,1.0,1.0]", "[0.2,0.0,0.5,0.5]", "[0.0,0.0,0.1,0.1]")
FAMILY: list[tuple[Callable[[], AnswerMetric], tuple[str, ...]]] = [
    (AnswerAccuracy, WORDS),
    (ANLS, WORDS),
    (lambda: BoxAccuracy(boxes=PlainBoxes()), BOXES),
    (CIDEr, WORDS),
    (lambda: ExactMatch("full_stop"), WORDS),
    (MultipleChoice, LETTERS),
    (lambda: POPE("exact"), YES_OR_NO),
    (RelaxedAccuracy, NUMBERS),
    (lambda: VQAAccuracy("always"), WORDS),
]
IDS = [make().name for make, _ in FAMILY]


def add(metric: AnswerMetric, answers: Sequence[str], places: Sequence[int]) -> None:
    """Answer the samples at some places, each with the answer of the next but the first two."""
    shifted = [answers[place] if place < 2 else answers[place - 1] for place in places]
    metric.update(shifted, [(answers[place],) for place in places], places)


@pytest.mark.parametrize(("make", "answers"), FAMILY, ids=IDS)
def test_each_sample_counts_once_whatever_batches_hold_it(
    make: Callable[[], AnswerMetric], answers: tuple[str, ...]
) -> None:
    whole, pieces = make(), make()
    add(whole, answers, range(4))
    for places in ([3, 0], [], [0, 2, 1], [3]):
        add(pieces, answers, places)
    assert pieces.figures() == pytest.approx(whole.figures())
    assert pieces.num_items == 4
    assert pieces.items == [0, 1, 2, 3]
    for name, scores in pieces.item_scores.items():
        assert sum(scores) / 4 == pytest.approx(pieces.figures()[name])


@pytest.mark.parametrize(("make", "answers"), FAMILY, ids=IDS)
def test_starts_anew_after_reset_and_is_rebuilt_from_its_record(
    make: Callable[[], AnswerMetric], answers: tuple[str, ...]
) -> None:
    metric = make()
    add(metric, answers, range(4))
    expected = metric.figures()
    metric.reset()
    add(metric, answers, range(4))
    assert metric.figures() == expected
    record = metric.init_config
    rebuilt = import_class(record["class_path"])(**plain(record["init_args"]))
    assert rebuilt.init_config == record
    add(rebuilt, answers, range(4))
    assert rebuilt.figures() == expected


def plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: import_class(value["class_path"])(**value["init_args"])
        if isinstance(value, dict)
        else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize(("make", "answers"), FAMILY, ids=IDS)
def test_without_samples_is_not_a_number(
    make: Callable[[], AnswerMetric], answers: tuple[str, ...]
) -> None:
    metric = make()
    metric.update([], [], [])
    assert metric.num_items == 0
    without_denominator = {"pope_precision", "pope_recall", "pope_f1"}
    for name, value in metric.figures().items():
        assert math.isnan(value) or name in without_denominator


def test_two_ranks_with_different_numbers_agree_with_one_process(
    two_ranks: Callable[..., list[Any]],
) -> None:
    """The first rank has three samples and one that the second has too, which has two, or none."""

    def share(make: Callable[[], AnswerMetric], answers: Any, places: list[int]) -> Any:
        metric = make()
        metric.update([], [], [])
        add(metric, answers, places)
        return metric.figures(), metric.num_items

    def job() -> Any:
        first = int(os.environ["LOCAL_RANK"]) == 0
        distributed.init_process_group("gloo", rank=0 if first else 1, world_size=2)
        shared = [share(*member, [2, 0, 1] if first else [3, 2]) for member in FAMILY]
        alone = [share(*member, [0, 1, 2, 3] if first else []) for member in FAMILY]
        distributed.destroy_process_group()
        return shared, alone

    one = [share(*member, [0, 1, 2, 3]) for member in FAMILY]
    assert all(items == 4 for _, items in one)
    for shared, alone in two_ranks(job):
        for (figures, items), expected in zip(shared + alone, one + one, strict=True):
            assert figures == pytest.approx(expected[0])
            assert items == 4


def test_a_batch_without_rows_leaves_places_whole_numbers() -> None:
    metric, far = VQAAccuracy(), 2**24
    metric.update(["a"], ["a"], [far])
    metric.update([], [], [])
    metric.update(["x"], ["b"], [far + 1])  # not to be told from `far` in single precision
    assert float(metric.compute()) == 0.5
    assert metric.items == [far, far + 1]


class Questioned(ScoredAnswers):
    name = "questioned"

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        return (float(question == "why?"),)


def test_a_metric_sees_the_question_or_none() -> None:
    metric = Questioned()
    metric.update(["a", "b"], ["a", "b"], [0, 1], ["why?", "how?"])
    metric.update(["c"], ["c"], [2])
    metric.compute()
    assert metric.item_scores == {"questioned": [1.0, 0.0, 0.0]}


def test_one_text_is_one_answer_not_one_for_each_letter() -> None:
    metric = ExactMatch()
    metric.update(["a"], ["ab"], [0])
    assert float(metric.compute()) == 0


def test_states_are_tensors_on_the_metrics_device() -> None:
    metric = CIDEr().to("meta")
    assert metric.texts.device.type == metric.indices.device.type == "meta"
    assert all(isinstance(getattr(metric, name), torch.Tensor) for name in metric._defaults)


@pytest.mark.parametrize(
    ("answers", "indices", "message"),
    [
        ([["a"], []], [0, 1], r"ExactMatch: each sample must have an answer .* got none\."),
        (["a", "b"], [0], r"ExactMatch: indices must be as many as texts, got 1 for 2 texts\."),
        (["a"], [0, 1], "argument 2 is shorter"),
    ],
)
def test_refuses_lists_that_do_not_fit(answers: Any, indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExactMatch().update(["a", "b"], answers, indices)
