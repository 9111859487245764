from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lit_vlm.callbacks import Freeze, PretrainedLR, RNGState, Stage, StagedFreezing
from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import TextEncoder
from lit_vlm.part_rates import PartLR
from lit_vlm.pretraining import ContrastivePretraining
from lit_vlm.pretraining.lock_letters import TowerPlan

Make = Callable[..., Any]
PARTS = ("encoder", "text_encoder", "head")


def copied(model: LightningModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    names = {name for name, value in before.items() if not torch.equal(value, after[name])}
    return {name.partition(".")[0] for name in names}


class Modes(Callback):
    """Keep what trains, and in which mode, at each step."""

    def __init__(self) -> None:
        self.training: list[set[str]] = []
        self.modes: list[set[str]] = []
        self.rates: list[dict[str, float]] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        names = [name for name, weight in pl_module.named_parameters() if weight.grad is not None]
        self.training.append({name.partition(".")[0] for name in names})
        inside = (name for name, module in pl_module.named_modules() if name and module.training)
        self.modes.append({name.partition(".")[0] for name in inside} & set(PARTS))
        self.rates.append({g["name"].partition(".")[0]: g["lr"] for g in optimizer.param_groups})


@pytest.mark.parametrize(
    ("letters", "trained"),
    [
        ("Lu", {"text_encoder", "head"}),
        ("LU", {"text_encoder", "head"}),
        ("LL", {"head"}),
        ("uL", {"encoder", "head"}),
        ("UL", {"encoder", "head"}),
        ("UU", set(PARTS)),
        ("uu", set(PARTS)),
    ],
)
def test_locked_towers_stay_to_the_bit_and_in_evaluation_mode(
    towers: Make, pairs: Make, fit: Make, letters: str, trained: set[str]
) -> None:
    model = towers(towers=letters, dropout=0.1, cache_features=False, weight_decay=0.5)
    model._is_restored = True  # the weights are random, which towers forbids for L and U
    before, watcher = copied(model), Modes()
    fit(model, pairs(), watcher, max_steps=3)
    assert moved(before, copied(model)) == trained
    assert watcher.training == [trained] * 3
    assert watcher.modes == [trained] * 3
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    statistics = {name for name in before if "running_mean" in name}
    assert statistics
    assert statistics & changed == (statistics if "encoder" in trained else set())


def test_a_pretrained_tower_may_train_slowly_and_later(
    towers: Make, pairs: Make, fit: Make
) -> None:
    model = towers(towers="Uu", image_multiplier=0.1, unlock_after=2, schedule="constant", warmup=0)
    model._is_restored = True
    watcher = Modes()
    fit(model, pairs(), watcher)
    assert watcher.training == [{"text_encoder", "head"}] * 2 + [set(PARTS)] * 2
    assert watcher.rates[-1] == pytest.approx({"encoder": 1e-3, "text_encoder": 0.01, "head": 0.01})


def test_a_run_is_resumed_after_its_image_tower_was_unlocked(
    towers: Make, pairs: Make, fit: Make, tmp_path: Path
) -> None:
    def make() -> Any:
        model = towers(towers="Uu", text_multiplier=0.5, unlock_after=0.5)
        model._is_restored = True
        return model

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "3.ckpt")

    whole = fit(make(), pairs(), RNGState(), Keep())
    assert whole[3:] == fit(make(), pairs(), RNGState(), resume=tmp_path / "3.ckpt")


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    eye = TimmEncoder("test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.save(eye.network.state_dict(), tmp_path / "eye.pth")
    return tmp_path / "eye.pth"


@pytest.mark.parametrize(
    ("letters", "pretrained", "message"),
    [
        ("Lu", False, r"towers=Lu must go with encoder.pretrained, got None for 'L'"),
        ("uu", True, r"must go with encoder.pretrained, got '.*eye.pth' for 'u'"),
        ("LU", True, r"must go with text_encoder.pretrained, got None for 'U'"),
    ],
)
def test_letters_must_agree_with_the_weights(
    towers: Make, pairs: Make, fit: Make, weights_file: Path, letters: Any, pretrained: bool,
    message: str,
) -> None:  # fmt: skip
    model = towers(towers=letters)
    if pretrained:
        model = ContrastivePretraining(_eye(weights_file), model.text_encoder, towers=letters)
    with pytest.raises(ValueError, match=message):
        fit(model, pairs())


def test_a_rebuilt_model_has_its_weights_from_its_checkpoint(
    towers: Make, pairs: Make, fit: Make, weights_file: Path, tmp_path: Path
) -> None:
    class Keep(Callback):
        def on_train_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    text: TextEncoder = towers().text_encoder
    fit(ContrastivePretraining(_eye(weights_file), text, towers="Lu"), pairs(), Keep(), max_steps=1)
    rebuilt = ContrastivePretraining.load_from_checkpoint(tmp_path / "end.ckpt")
    assert rebuilt.encoder.init_config["init_args"]["pretrained"] is None
    assert len(fit(rebuilt, pairs(), max_steps=1)) == 1
    other = ContrastivePretraining(_eye(weights_file), towers().text_encoder, towers="Lu")
    assert len(fit(other, pairs(), resume=tmp_path / "end.ckpt", max_steps=2)) == 1


def _eye(weights: Path) -> TimmEncoder:
    return TimmEncoder(
        "test_resnet", pretrained=weights, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (StagedFreezing({"all": Stage(trains=["head"])}), "must say alone what trains, got Staged"),
        (Freeze(["encoder"]), "must say alone what trains, got Freeze too"),
        (PretrainedLR({"head": PartLR(multiplier=2.0)}), "must say learning rates alone, got"),
    ],
)
def test_others_may_not_say_what_trains_and_how_fast(
    towers: Make, pairs: Make, fit: Make, callback: Callback, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(towers(towers="Uu", image_multiplier=0.5), pairs(), callback)


def test_idle_callbacks_give_way_and_a_model_can_be_trained_twice(
    towers: Make, pairs: Make, fit: Make
) -> None:
    model = towers(towers="Lu")
    model._is_restored = True
    for _ in range(2):
        fit(model, pairs(), StagedFreezing(), PretrainedLR(), max_steps=1)
        made = model.trainer.callbacks
        assert [len(c.stages) for c in made if isinstance(c, StagedFreezing)] == [1]
        assert [len(c.parts) for c in made if isinstance(c, PretrainedLR)] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"letters": "Lu", "image_multiplier": 0.1}, "image_multiplier must be left out for a"),
        ({"letters": "UL", "text_multiplier": 0.1}, "text_multiplier must be left out for a"),
        ({"letters": None, "text_multiplier": 0.0}, "text_multiplier must be positive, got 0.0"),
        ({"letters": "Lu", "unlock_after": 3}, "unlock_after is for an image tower that is"),
        ({"letters": "Uu", "unlock_after": 1.0}, "unlock_after must be a number of steps or a"),
    ],
)
def test_refuses_what_means_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TowerPlan(**options)
