import torch

from lit_vlm.level_scores import neighbour_scores, probe_scores

BANK = torch.eye(2).repeat(5, 1)
LABELS = torch.tensor([0, 1]).repeat(5)


def test_vectors_that_are_not_finite_count_as_wrong() -> None:
    # All are of class 0, which the largest of no number would be.
    queries, truth = torch.eye(2)[:1].repeat(10, 1), torch.zeros(10, dtype=torch.long)
    queries[:4] = torch.nan
    test = queries, truth
    [neighbours] = neighbour_scores("level", (BANK, LABELS), test, [1], 0.07)
    [probe] = probe_scores("level", (BANK, LABELS), test, [0.1], [0.0], 20)
    for score in (neighbours, probe):
        assert (score.correct, score.samples) == (6, 10)
