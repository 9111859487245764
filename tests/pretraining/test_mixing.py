import numpy as np
import pytest
import torch
from torch import Tensor

from lit_vlm.pretraining.mixing import Mixing


def batch() -> tuple[Tensor, Tensor]:
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None] * 60
    return images.expand(4, 3, 8, 8).contiguous(), torch.tensor([0, 1, 2, 1])


def test_mixup_blends_pictures_and_labels_by_the_same_share() -> None:
    images, labels = batch()
    torch.manual_seed(0)
    mixed, targets = Mixing(1.0, 0.0, 1.0)(images, labels, 3)
    # The first is blended with the last: 0 and 180 of 255, classes 0 and 1.
    share = targets[0, 1]
    assert 0 < share < 1
    assert torch.allclose(mixed[0], share * 180 / 255 * torch.ones(3, 8, 8), atol=1e-5)
    assert torch.allclose(targets.sum(-1), torch.ones(4))


def test_cutmix_puts_a_piece_of_one_picture_into_another() -> None:
    images, labels = batch()
    torch.manual_seed(3)
    mixed, targets = Mixing(0.0, 1.0, 1.0)(images, labels, 3)
    foreign = (mixed[0] > 0).float().mean()
    assert set((mixed[0] * 255).round().flatten().tolist()) <= {0.0, 180.0}
    assert torch.isclose(targets[0, 1], foreign, atol=1e-5)


def test_draws_the_same_from_the_same_state_and_leaves_numpys_alone() -> None:
    images, labels = batch()
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(Mixing(0.8, 1.0, 0.5)(images, labels, 3))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    assert images.dtype == torch.uint8


def test_refuses_an_odd_batch() -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match="even number of pictures.*got 3. Choose an even"):
        Mixing(0.8, 0.0, 1.0)(images[:3], labels[:3], 3)


def test_refuses_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        Mixing(-1, 0.0, 1.0)
    with pytest.raises(ValueError, match="mix_probability must be between 0 and 1, got 2"):
        Mixing(1, 0.0, 2)
