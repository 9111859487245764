"""Accuracy of boxes: does the generated one cover the right place?"""

from lit_vlm.conversation import Box
from lit_vlm.metrics.scored_answers import ScoredAnswers
from lit_vlm.prompts.boxes import BoxFormat, QwenBoxes


class BoxAccuracy(ScoredAnswers):
    """Share of boxes that overlap enough with the answer's, and how much they overlap.

    The first generated box is compared with the first of the answer, the second with the second,
    and so on; surplus boxes are passed over. A box that is missing, unreadable or inverted
    overlaps with nothing, and is wrong. A sample's score is the mean over its answer's boxes; of
    several answers, the one that suits best counts.

    Overlaps are intersection over union, which is the same in pixels and in shares of the sides.
    Both boxes are read from words: those of the data are first rounded to the units of the format,
    and under ``resize: crop`` cut to what the model sees. Published scorers compare with the pixels
    of the data, hence figures may differ where objects are small or reach out of the crop.

    Args:
        threshold: least overlap of a right box.
        boxes: how boxes are written; None for how the model that answers writes them, and for
            Qwen-VL's form (``QwenBoxes``) where there is no model to ask.

    Raises:
        ValueError: if ``threshold`` is not above 0 and at most 1; on ``update``, if an answer in
            the data has no box.

    Source:
        RefCOCO's accuracy at 0.5, as in Qwen-VL (Bai et al., 2023),
        https://github.com/QwenLM/Qwen-VL, ``eval_mm/evaluate_grounding.py``, which takes the first
        box and divides by 999 where the text says thousandths.

    Example:
        >>> metric = BoxAccuracy()
        >>> right, left = "<box>(500,0),(1000,1000)</box>", "<box>(0,0),(500,1000)</box>"
        >>> metric.update([right, left], [right, right], [0, 1])
        >>> metric.figures()
        {'box_accuracy': 0.5, 'mean_iou': 0.5}
    """

    name = "box_accuracy"
    columns = ("box_accuracy", "mean_iou")

    def __init__(self, threshold: float | int = 0.5, boxes: BoxFormat | None = None) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(
                f"BoxAccuracy: threshold must be above 0 and at most 1, got {threshold}."
            )
        self.threshold = threshold
        self.boxes = boxes or QwenBoxes()
        self._told = boxes is not None

    def follow(self, model: object) -> None:
        """Read boxes as the model writes them, unless told otherwise."""
        if not self._told:
            self.boxes = getattr(model, "boxes", self.boxes)

    def score(self, generated: str, answers: tuple[str, ...], question: str) -> tuple[float, ...]:
        """Return the share of right boxes and the mean overlap."""
        found = self.boxes.read(generated)
        return max(self._compared(found, self._expected(answer)) for answer in answers)

    def _compared(self, found: list[Box], wanted: list[Box]) -> tuple[float, float]:
        overlaps = [box_iou(one, other) for one, other in zip(found, wanted, strict=False)]
        right = sum(overlap >= self.threshold for overlap in overlaps)
        return right / len(wanted), sum(overlaps) / len(wanted)

    def _expected(self, answer: str) -> list[Box]:
        if boxes := self.boxes.read(answer):
            return boxes
        example = self.boxes.write((0, 0, 0.5, 0.5))
        raise ValueError(
            f"BoxAccuracy: an answer in the data must hold a box such as {example}, got {answer!r}."
            f" Name the right format (boxes), or give the metric to the source that has boxes."
        )


def box_iou(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union.

    It is 1 for the same box twice, even if it has no area.

    Example:
        >>> box_iou((0, 0, 2, 1), (1, 0, 3, 1))
        0.3333333333333333
    """
    if one == other:
        return 1.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return float(shared / union) if union > 0 else 0.0


def _area(box: Box) -> int | float:
    return (box[2] - box[0]) * (box[3] - box[1])
