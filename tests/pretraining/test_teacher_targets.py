import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, distributed
from torch.testing import assert_close

from lit_vlm.pretraining.target_spread import entropies
from lit_vlm.pretraining.teacher_targets import Centring, SinkhornKnopp


class ReferenceCentre:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/loss/dino_clstoken_loss.py
    def __init__(self, out_dim: int, center_momentum: float = 0.9) -> None:
        self.center = torch.zeros(1, out_dim)
        self.center_momentum = center_momentum

    def softmax_center_teacher(self, teacher_output: Tensor, teacher_temp: float) -> Tensor:
        return F.softmax((teacher_output - self.center) / teacher_temp, dim=-1)

    def apply_center_update(self, teacher_output: Tensor) -> None:
        _t = torch.sum(teacher_output, dim=0, keepdim=True) / len(teacher_output)
        self.center = self.center * self.center_momentum + _t * (1 - self.center_momentum)


def reference_sinkhorn(output: Tensor, temp: float, n_iterations: int = 3) -> Tensor:
    # https://github.com/facebookresearch/dinov2/blob/main/dinov2/loss/dino_clstoken_loss.py
    q = torch.exp(output / temp).t()
    b, k = q.shape[1], q.shape[0]
    q /= torch.sum(q)
    for _ in range(n_iterations):
        q /= torch.sum(q, dim=1, keepdim=True)
        q /= k
        q /= torch.sum(q, dim=0, keepdim=True)
        q /= b
    q *= b
    return q.t()


def scores(rows: int = 12, prototypes: int = 5) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(0))


def test_centring_equals_metas_code_over_several_steps() -> None:
    ours, theirs = Centring(5), ReferenceCentre(5)
    for batch in torch.split(scores(), 4):
        assert_close(ours(batch, 0.04), theirs.softmax_center_teacher(batch, 0.04))
        ours.end_step()
        theirs.apply_center_update(batch)
        assert_close(ours.center, theirs.center[0])


def test_the_centre_moves_once_a_step_however_many_batches_it_has() -> None:
    whole, parts = Centring(5), Centring(5)
    whole(scores(), 0.04)
    for batch in torch.split(scores(), [2, 7, 3]):
        parts(batch, 0.04)
        assert not parts.center.any()
    whole.end_step()
    parts.end_step()
    assert_close(parts.center, whole.center)
    kept = parts.center.clone()
    parts.end_step()  # nothing came since
    assert_close(parts.center, kept, rtol=0, atol=0)


def test_without_scores_the_centre_stays() -> None:
    centring = Centring(5)
    centring.center.fill_(1)
    assert centring(scores(0), 0.04).shape == (0, 5)
    centring.end_step()
    assert_close(centring.center, torch.ones(5))


def test_a_momentum_of_1_switches_centring_off() -> None:
    centring = Centring(5, momentum=1)
    centring(scores(), 0.04)
    centring.end_step()
    assert not centring.center.any()


def test_the_centre_is_saved() -> None:
    assert list(Centring(5).state_dict()) == ["center"]


def test_sinkhorn_equals_metas_code() -> None:
    assert_close(SinkhornKnopp()(scores(), 0.07), reference_sinkhorn(scores(), 0.07))


def test_sinkhorn_shares_rows_out_evenly() -> None:
    assigned = SinkhornKnopp(iterations=200)(scores(), 0.5)
    assert_close(assigned.sum(dim=1), torch.ones(12))
    assert_close(assigned.sum(dim=0), torch.full((5,), 12 / 5))


def test_sinkhorn_stands_scores_of_any_size() -> None:
    assigned = SinkhornKnopp()(scores() + 1000, 0.04)
    assert_close(assigned, SinkhornKnopp()(scores() + 1000 - 1000, 0.04), rtol=1e-2, atol=1e-3)
    assert SinkhornKnopp()(scores(0), 0.04).shape == (0, 5)


def test_two_ranks_agree_with_one_process(two_ranks: Callable[..., list[Any]]) -> None:
    parts = torch.split(scores(), [8, 4])  # masked patches are never equally many
    halves = torch.split(scores().softmax(dim=-1), 6)

    def job() -> Any:
        rank = int(os.environ["LOCAL_RANK"])
        distributed.init_process_group("gloo", rank=rank, world_size=2)
        mine = parts[rank]
        centring = Centring(5)
        centring(mine, 0.04)
        centring.end_step()
        assigned = SinkhornKnopp()(mine, 0.07)
        # A rank without a masked patch must not stop the other.
        lonely = SinkhornKnopp()(scores() if rank else scores(0), 0.07)
        return centring.center, assigned, lonely, entropies(halves[rank])

    alone = Centring(5)
    alone(scores(), 0.04)
    alone.end_step()
    ranks = two_ranks(job)
    for center, *_ in ranks:
        assert_close(center, alone.center)
    assigned = SinkhornKnopp()(scores(), 0.07)
    assert_close(torch.cat([rank[1] for rank in ranks]), assigned)
    assert_close(ranks[1][2], assigned)
    each, marginal = entropies(scores().softmax(dim=-1))
    assert_close((ranks[0][3][0] + ranks[1][3][0]) / 2, each)
    assert_close(ranks[0][3][1], marginal)
