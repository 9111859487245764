from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
import torch

from lit_vlm.item_scores import ItemScore
from lit_vlm.selection import Bootstrap, Candidate, compare, decide, read_candidate

HOW = Bootstrap(0.95, 500, 0)


def candidate(name: str, scores: Sequence[float], weight: float = 1.0) -> Candidate:
    items: dict[Hashable, ItemScore] = {
        i: ItemScore(score, weight, ()) for i, score in enumerate(scores)
    }
    return Candidate(name, f"checkpoints/{name}.ckpt", 1, 0, items)


LOW, MIDDLE, HIGH = [0.1] * 20, [0.5] * 20, [0.9] * 20


@pytest.mark.parametrize(
    ("best", "last", "average", "choice"),
    [
        (HIGH, LOW, MIDDLE, "best"),
        (LOW, MIDDLE, HIGH, "average"),
        (HIGH, LOW, HIGH, "best"),
        (LOW, HIGH, MIDDLE, "last"),
        (HIGH, HIGH, HIGH, "last"),
        (MIDDLE, LOW, HIGH, "average"),
    ],
)
def test_the_challenger_must_be_better_beyond_doubt(
    best: list[float], last: list[float], average: list[float], choice: str
) -> None:
    named = {"average": average, "best": best, "last": last}
    comparisons = decide({name: candidate(name, made) for name, made in named.items()}, HOW)
    assert comparisons[-1].winner == choice
    assert [made.challenger for made in comparisons] == ["best", "average"]


def test_last_alone_is_compared_with_nothing() -> None:
    assert decide({"last": candidate("last", LOW)}, HOW) == []


def test_a_score_is_the_sum_of_scores_over_the_sum_of_weights() -> None:
    assert candidate("last", [3.0, 1.0], weight=4.0).score == 0.5
    assert Candidate("last", "x", 1, 0, figure=2.5).score == 2.5


@pytest.mark.parametrize(
    ("best", "last", "winner"),
    [(HIGH, [float("nan")] * 20, "best"), ([float("nan")] * 20, LOW, "last")],
)
def test_what_has_no_finite_scores_loses(best: list[float], last: list[float], winner: str) -> None:
    made = compare(candidate("best", best), candidate("last", last), HOW)
    assert (made.winner, made.interval) == (winner, None)
    assert "are not finite" in made.reason


def test_few_items_prove_nothing() -> None:
    made = compare(candidate("best", HIGH[:5]), candidate("last", LOW[:5]), HOW)
    assert (made.winner, made.interval) == ("last", None)
    assert "5 groups of items are too few to tell a difference from chance (6 are" in made.reason


def test_refuses_scores_of_different_items() -> None:
    with pytest.raises(ValueError, match=r"got 20 and 19, of which 19 are the same\. Return a"):
        compare(candidate("best", LOW), candidate("last", LOW[:19]), HOW)


def test_refuses_weights_that_depend_on_the_checkpoint() -> None:
    with pytest.raises(ValueError, match="weights of items must be the same for all checkpoints"):
        compare(candidate("best", LOW, weight=2.0), candidate("last", LOW), HOW)


def test_reads_what_a_checkpoint_says_of_itself(tmp_path: Path) -> None:
    torch.save({"global_step": 7, "epoch": 2}, tmp_path / "last.ckpt")
    assert read_candidate("last", tmp_path / "last.ckpt", tmp_path.parent) == Candidate(
        "last", f"{tmp_path.name}/last.ckpt", 7, 2
    )
    (tmp_path / "folder.ckpt").mkdir()
    assert read_candidate("last", tmp_path / "folder.ckpt", tmp_path).step is None


def test_a_figure_that_is_not_finite_loses_without_items_too() -> None:
    last = Candidate("last", "last.ckpt", 2, 0, figure=float("nan"))
    best = Candidate("best", "best.ckpt", 1, 0, figure=0.3)
    assert compare(best, last, HOW).winner == "best"
    assert compare(last, best, HOW).winner == "best"
