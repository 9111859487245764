import pytest

from lit_vlm.metrics import ExactMatch
from lit_vlm.metrics.exact_match import Reading


@pytest.mark.parametrize(
    ("ignore", "matching"),
    [
        ("nothing", {"red"}),
        ("case", {"red", " Red"}),
        ("full_stop", {"red", " Red", "Red.", "red..."}),
        ("punctuation", {"red", " Red", "Red.", "red...", '"red!"'}),
    ],
)
def test_leaves_out_what_does_not_count(ignore: Reading, matching: set[str]) -> None:
    texts = ["red", " Red", "Red.", "red...", '"red!"', "a red"]
    metric = ExactMatch(ignore)
    metric.update(texts, ["red"] * 6, range(6))
    metric.compute()
    scores = metric.item_scores["exact_match"]
    assert {text for text, score in zip(texts, scores, strict=True) if score} == matching


def test_any_of_several_answers_will_do() -> None:
    metric = ExactMatch()
    metric.update(["b", "c"], [["a", "b"], ["a", "b"]], [0, 1])
    assert float(metric.compute()) == 0.5
