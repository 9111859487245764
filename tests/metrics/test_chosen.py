import pytest

from lit_vlm.metrics import CIDEr, ExactMatch, VQAAccuracy
from lit_vlm.metrics.chosen import NamedMetrics, choose_metrics

NAMES = ("vqa", "captions")


@pytest.mark.parametrize(
    ("chosen", "names", "found"),
    [
        (None, NAMES, {"": []}),
        (CIDEr(), (), {"": ["cider"]}),
        ([CIDEr(), ExactMatch()], NAMES, {"": ["cider", "exact_match"]}),
        (
            {"vqa": [VQAAccuracy(), ExactMatch()], "captions": CIDEr()},
            NAMES,
            {"vqa": ["vqa_accuracy", "exact_match"], "captions": ["cider"]},
        ),
    ],
)
def test_are_listed_by_source(
    chosen: NamedMetrics, names: tuple[str, ...], found: dict[str, list[str]]
) -> None:
    listed = choose_metrics(chosen, names)
    assert {source: [m.name for m in metrics] for source, metrics in listed.items()} == found


def test_refuses_a_source_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"got 'vqq'\. Did you mean: vqa\?"):
        choose_metrics({"vqq": CIDEr()}, NAMES)
    with pytest.raises(ValueError, match=r"got 'vqa'\. Name sources"):
        choose_metrics({"vqa": CIDEr()}, ())


def test_refuses_two_metrics_of_one_name() -> None:
    with pytest.raises(ValueError, match=r"got another VQAAccuracy, which is logged as 'vqa_acc"):
        choose_metrics([VQAAccuracy(), VQAAccuracy("always")], NAMES)
