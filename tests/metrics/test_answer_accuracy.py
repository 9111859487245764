import math

import pytest
import torch

from lit_vlm.metrics import AnswerAccuracy, is_correct, normalize_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Red", "red"),
        ("  A red\n\tCircle. ", "a red circle"),
        ('"yes!"', "yes"),
        ("**no**", "no"),
        ("`teal`.", "teal"),
        ("«Oui»", "oui"),
        ("50 %", "50 %"),
        ("50%.", "50%"),
        ("3.5", "3.5"),
        ("-3", "-3"),
        ("(-3)", "-3"),
        (".5", ".5"),
        ("- red", "red"),
        ("it's", "it's"),
        ("x-ray", "x-ray"),
        ("C++", "c++"),
        ("赤です。", "赤です"),
        # A vowel sign is no word character to regular expressions.
        ("की।", "की"),
        ("🙂", "🙂"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalizes_answers(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal
    assert normalize_answer(normal) == normal


@pytest.mark.parametrize(
    ("generated", "answer", "correct"),
    [
        ("Red.", "red", True),
        ("red circle", "red", False),
        ("5", "-5", False),
        ("5", ".5", False),
        ("का", "की", False),
        ("", "?", False),
        ("?", " ? ", True),
        ("", "", True),
        ("!", "", False),
    ],
)
def test_compares_normalized_answers(generated: str, answer: str, correct: bool) -> None:
    assert is_correct(generated, answer) is correct


def test_counts_each_sample_once() -> None:
    metric = AnswerAccuracy()
    metric.update(["red", "blue"], ["red", "green"], [0, 1])
    metric.update(["red", "no", "yes"], ["red", "no", "yes"], [0, 2, 2])
    assert float(metric.compute()) == pytest.approx(2 / 3)
    assert metric.num_items == 3


def test_without_samples_is_not_a_number() -> None:
    metric = AnswerAccuracy()
    metric.update([], [], [])
    assert math.isnan(float(metric.compute()))
    assert metric.num_items == 0


def test_a_batch_without_rows_leaves_places_whole_numbers() -> None:
    metric = AnswerAccuracy()
    far = 2**24
    metric.update(["a"], ["a"], [far])
    metric.update([], [], [])
    metric.update(["b"], ["c"], [far + 1])  # not to be told from `far` in single precision
    assert metric.indices.dtype == torch.int64
    assert float(metric.compute()) == 0.5


def test_starts_anew_after_reset() -> None:
    metric = AnswerAccuracy()
    metric.update(["red"], ["blue"], [0])
    assert float(metric.compute()) == 0
    metric.reset()
    metric.update(["red"], ["red"], [0])
    assert float(metric.compute()) == 1
    assert metric.num_items == 1


def test_merges_what_several_ranks_scored() -> None:
    ranks = [AnswerAccuracy(), AnswerAccuracy(), AnswerAccuracy()]
    ranks[0].update(["red", "red"], ["red", "blue"], [0, 1])
    ranks[1].update(["red", "no"], ["red", "no"], [0, 2])
    whole = AnswerAccuracy()
    for name in ("indices", "scores"):
        gathered = torch.cat([getattr(rank, name) for rank in ranks])
        setattr(whole, name, gathered)
    whole._update_count = 1
    assert float(whole.compute()) == pytest.approx(2 / 3)


def test_refuses_lists_of_unlike_lengths() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        AnswerAccuracy().update(["red"], ["red", "blue"], [0, 1])
