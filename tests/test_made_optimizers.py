import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau, SequentialLR, StepLR

from lit_vlm.made_optimizers import optimizers_in, schedulers_in


def optimizer() -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def test_finds_optimizers_and_schedulers_in_whatever_lightning_takes() -> None:
    one, two = optimizer(), optimizer()
    scheduler, plateau = StepLR(one, 1), ReduceLROnPlateau(two)
    config = {"scheduler": plateau, "interval": "epoch", "monitor": "loss"}
    for made, optimizers, schedulers in (
        (one, [one], []),
        ([one, two], [one, two], []),
        (([one], scheduler), [one], [scheduler]),
        (([one, two], [scheduler, config]), [one, two], [scheduler, plateau]),
        ({"optimizer": one, "lr_scheduler": scheduler}, [one], [scheduler]),
        ([{"optimizer": one}, {"optimizer": two, "lr_scheduler": config}], [one, two], [plateau]),
        (LightningOptimizer(one), [one], []),
        (None, [], []),
    ):
        assert optimizers_in(made) == optimizers
        assert schedulers_in(made) == schedulers


def test_finds_the_schedulers_that_one_is_made_of() -> None:
    one = optimizer()
    parts = [ConstantLR(one), StepLR(one, 1)]
    both = SequentialLR(one, parts, milestones=[2])
    assert schedulers_in(([one], [both])) == [both, *parts]
