import pytest
import torch

from lit_vlm.answer_scores import AnswerScores
from lit_vlm.metrics import AnswerMetric, BoxAccuracy, ExactMatch
from lit_vlm.predictions import Prediction
from lit_vlm.prompts import PlainBoxes

CPU = torch.device("cpu")
BOX = "[0.0,0.0,0.5,1.0]"


class Model:
    boxes = PlainBoxes()


def made(index: int, generated: str, answer: str | None, source: str = "") -> Prediction:
    return Prediction(index, str(index), (), "q", answer, generated, None, source)


def test_scores_all_samples_by_exact_match_and_each_source_by_its_own() -> None:
    scores = AnswerScores(Model(), CPU)
    chosen: dict[str, list[AnswerMetric]] = {
        "colors": [ExactMatch()],
        "boxes": [BoxAccuracy()],
        "others": [],
    }
    first = [
        made(0, "Red.", "red", "colors"),
        made(1, BOX, BOX, "boxes"),
        made(2, "a", "b", "others"),
    ]
    scores.add(first, "test", "", chosen)
    scores.add(
        [made(3, "blue", "blue", "colors"), made(3, "blue", "blue", "colors")], "test", "", chosen
    )
    assert list(scores.figures()) == [
        ("test/accuracy", 0.75, 4),
        ("test/colors/exact_match", 0.5, 2),
        ("test/boxes/box_accuracy", 1.0, 1),
        ("test/boxes/mean_iou", 1.0, 1),
    ]


def test_every_source_has_a_figure_from_the_first_batch_on() -> None:
    """Ranks that see none of a source's samples must still take part in its synchronisation."""
    scores = AnswerScores(Model(), CPU)
    scores.add([], "val", "_blank", {"a": [ExactMatch()], "b": [ExactMatch()]})
    found = {name: samples for name, _, samples in scores.figures()}
    assert found == {
        "val/accuracy_blank": 0,
        "val/a/exact_match_blank": 0,
        "val/b/exact_match_blank": 0,
    }


def test_samples_without_an_answer_are_left_to_exact_match() -> None:
    scores = AnswerScores(Model(), CPU)
    scores.add([made(0, "a", None), made(1, "a", "a")], "val", "", {"": [ExactMatch()]})
    assert list(scores.figures()) == [("val/accuracy", 0.5, 2), ("val/exact_match", 1.0, 1)]


def test_the_chosen_metric_itself_is_left_as_it_is() -> None:
    chosen = ExactMatch()
    for _ in range(2):
        scores = AnswerScores(Model(), CPU)
        scores.add([made(0, "a", "a")], "val", "", {"": [chosen]})
    assert chosen.update_count == 0
    with pytest.warns(UserWarning, match="before the ``update``"):
        chosen.compute()
    assert chosen.num_items == 0
