import csv
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adagrad, AdamW, Optimizer, lr_scheduler
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lit_vlm.callbacks import Freeze, PartLR, PretrainedLR, Stage, StagedFreezing, TrainableReport
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel
from lit_vlm.sharded_strategy import StagedModelParallel

MakeTrainer = Callable[..., Trainer]
PEAK, STEPS = 0.1, 12
SMALL = {"body": PartLR(multiplier=0.5, layer_decay=0.75)}
SCALES = {"head": 1.0, "norm": 0.5, "blocks.1": 0.5 * 0.75, "blocks.0": 0.5 * 0.75**2}


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 4))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(2)
        )
        self.norm = nn.LayerNorm(4)

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows + self.pos_embed
        for block in self.blocks:
            rows = rows + block(rows)
        return self.norm(rows)


class Stranger(LightningModule):
    """Somebody else's module: whatever optimizer and scheduler."""

    def __init__(
        self,
        optimizer: Callable[..., Optimizer] = AdamW,
        scheduler: Callable[[Optimizer], Any] | None = None,
        interval: str = "step",
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = Body()
        self.head = nn.Linear(4, 2)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.interval = interval
        self.seen: list[dict[str, float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("level", 1.0)
        return self.head(self.body(batch)).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters(), lr=PEAK)
        if self.make_scheduler is None:
            return optimizer
        scheduler = {"scheduler": self.make_scheduler(optimizer), "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": {**scheduler, "monitor": "level"}}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.seen.append(rates(self, optimizer))


def rates(module: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    """Return the learning rate of each parameter."""
    names = {id(p): name for name, p in module.named_parameters()}
    return {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}


def loader(steps: int = STEPS, size: int = 2) -> Any:
    rows: Any = torch.linspace(-1, 1, 4 * size).reshape(size, 4).repeat(steps, 1)
    return DataLoader(rows, batch_size=size)


def fit(trainer: Trainer, model: LightningModule, **options: Any) -> None:
    trainer.fit(model, loader(), **options)


def expected_scale(name: str) -> float:
    if name == "body.pos_embed":
        return 0.5 * 0.75**3
    return next(scale for piece, scale in SCALES.items() if piece in name)


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.3, total_steps=STEPS),
    "cosine with a floor": partial(lr_scheduler.CosineAnnealingLR, T_max=STEPS, eta_min=0.02),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.9),
    "lambda": lambda made: lr_scheduler.LambdaLR(made, lambda step: 1 / (1 + step)),
    "warm restarts": partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=5, eta_min=0.01),
    "polynomial": partial(lr_scheduler.PolynomialLR, total_iters=STEPS, power=2.0),
    "multiplicative": lambda made: lr_scheduler.MultiplicativeLR(made, lambda step: 0.8),
    "cyclic": partial(lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.2, step_size_up=4),
    "warm-up, then cosine": lambda made: lr_scheduler.SequentialLR(
        made,
        [
            lr_scheduler.LinearLR(made, 0.1, total_iters=3),
            lr_scheduler.CosineAnnealingLR(made, STEPS - 3, eta_min=0.01),
        ],
        milestones=[3],
    ),
    "chained": lambda made: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(made, 0.5, total_iters=4), lr_scheduler.ExponentialLR(made, 0.9)],
        optimizer=made,
    ),
}


def plain_rates(scheduler: Callable[[Optimizer], Any]) -> list[float]:
    """Return what a copy of the scheduler says, step by step."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    copy, found = scheduler(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        copy.step()
    return found


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=list(SCHEDULERS))
def test_multiplies_after_every_schedule(
    quiet_trainer: MakeTrainer, scheduler: Callable[[Optimizer], Any]
) -> None:
    model = Stranger(partial(SGD, momentum=0.9), scheduler)
    fit(quiet_trainer(PretrainedLR(SMALL), max_epochs=1), model)
    expected = plain_rates(scheduler)
    assert len(set(expected)) > 3
    assert len(model.seen) == STEPS
    for seen, rate in zip(model.seen, expected, strict=True):
        assert seen == {name: rate * expected_scale(name) for name in seen}


def test_a_plateau_lowers_all_rates_alike(quiet_trainer: MakeTrainer) -> None:
    scheduler = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0, min_lr=PEAK / 4)
    model = Stranger(SGD, scheduler, "epoch")
    fit(quiet_trainer(PretrainedLR(SMALL), max_epochs=5), model)
    of_epochs = model.seen[::STEPS]
    shares = [seen["head.weight"] / PEAK for seen in of_epochs]
    assert shares == [1.0, 1.0, 0.5, 0.25, 0.25]
    for seen, share in zip(of_epochs, shares, strict=True):
        assert seen == {name: share * PEAK * expected_scale(name) for name in seen}


@pytest.mark.parametrize("optimizer", [SGD, AdamW, Adagrad])
def test_without_a_schedule_rates_stand(
    quiet_trainer: MakeTrainer, optimizer: type[Optimizer]
) -> None:
    model = Stranger(optimizer)
    fit(quiet_trainer(PretrainedLR(SMALL), max_epochs=1), model)
    assert model.seen == [{name: PEAK * expected_scale(name) for name in model.seen[0]}] * STEPS


def test_a_step_of_plain_descent_is_as_much_smaller(quiet_trainer: MakeTrainer) -> None:
    def moved(*callbacks: Callback) -> dict[str, Tensor]:
        model = Stranger(SGD)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        fit(quiet_trainer(*callbacks, max_steps=1), model)
        return {name: p.detach() - before[name] for name, p in model.named_parameters()}

    whole, small = moved(), moved(PretrainedLR(SMALL))
    for name, step in whole.items():
        assert_close(small[name], step * expected_scale(name), rtol=1e-4, atol=1e-7)
    assert any(step.abs().max() > 1e-3 for step in whole.values())


# The batches are all alike, so none is missed.
IN_THE_MIDDLE = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended")


def train(
    make: MakeTrainer,
    parts: dict[str, PartLR],
    scheduler: str,
    folder: Path,
    max_steps: int,
    ckpt_path: Path | None = None,
) -> Stranger:
    """Train with AdamW in passes of five steps; every third leaves a checkpoint."""

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step % 3 == 0:
                trainer.save_checkpoint(folder / f"step={trainer.global_step}.ckpt")

    model = Stranger(scheduler=SCHEDULERS[scheduler])
    trainer = make(PretrainedLR(parts), Keep(), max_steps=max_steps)
    trainer.fit(model, loader(5), ckpt_path=ckpt_path)
    return model


@IN_THE_MIDDLE
@pytest.mark.parametrize("name", ["one cycle", "exponential", "warm-up, then cosine"])
def test_a_resumed_run_has_the_same_rates_and_weights_to_the_bit(
    quiet_trainer: MakeTrainer, tmp_path: Path, name: str
) -> None:
    run = partial(train, quiet_trainer, SMALL, name, max_steps=STEPS)
    whole = run(tmp_path / "whole")
    for step in (3, 6, 9):  # in the middle of a pass, too
        resumed = run(tmp_path / f"from {step}", ckpt_path=tmp_path / "whole" / f"step={step}.ckpt")
        assert resumed.seen == whole.seen[step:]
        for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(one, other)


def resume(make: MakeTrainer, folder: Path, parts: dict[str, PartLR]) -> Stranger:
    """Train three steps with ``SMALL``, and go on with other parts."""
    train(make, SMALL, "exponential", folder / "one", 3)
    saved = folder / "one" / "step=3.ckpt"
    return train(make, parts, "exponential", folder / "two", 5, saved)


@IN_THE_MIDDLE
def test_a_resumed_run_obeys_other_values(quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    other = {"body": PartLR(multiplier=0.2, layer_decay=0.5)}
    seen = resume(quiet_trainer, tmp_path, other).seen[0]
    rate = plain_rates(SCHEDULERS["exponential"])[3]
    assert seen["head.weight"] == rate
    assert seen["body.blocks.0.0.weight"] == rate * (0.2 * 0.5**2)


def test_a_resumed_run_must_have_the_same_groups(
    quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="PretrainedLR: a run must be resumed with the parameter"):
        resume(quiet_trainer, tmp_path, {"body.norm": PartLR(multiplier=0.2)})


def configured(
    make: MakeTrainer, model: LightningModule, parts: dict[str, PartLR], *others: Callback
) -> list[dict[str, Any]]:
    """Return the parameter groups as training begins, with names of parameters."""
    found: list[dict[str, Any]] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            names = {id(p): name for name, p in pl_module.named_parameters()}
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    found.append({**group, "params": [names[id(p)] for p in group["params"]]})

    fit(make(*others, PretrainedLR(parts), Look(), max_steps=1), model)
    return found


def test_groups_say_what_they_are(quiet_trainer: MakeTrainer) -> None:
    groups = configured(quiet_trainer, Stranger(partial(AdamW, weight_decay=0.3)), SMALL)
    rows = [(g["name"], g["part"], g["lr_multiplier"], g["weight_decay"]) for g in groups]
    assert rows == [
        ("body.layer_0.no_decay", "body", 0.5 * 0.75**3, 0.0),
        ("body.layer_1", "body", 0.5 * 0.75**2, 0.3),
        ("body.layer_1.no_decay", "body", 0.5 * 0.75**2, 0.0),
        ("body.layer_2", "body", 0.5 * 0.75, 0.3),
        ("body.layer_2.no_decay", "body", 0.5 * 0.75, 0.0),
        ("body.layer_3.no_decay", "body", 0.5, 0.0),
        ("head", "head", 1.0, 0.3),
        ("head.no_decay", "head", 1.0, 0.0),
    ]
    assert groups[0]["params"] == ["body.pos_embed"], "a matrix by its shape"


def test_the_innermost_part_counts_and_then_the_last(quiet_trainer: MakeTrainer) -> None:
    parts = {
        "body.blocks.1": PartLR(multiplier=0.25),
        "body": PartLR(multiplier=0.5),
        "body.nor?": PartLR(multiplier=0.1),
        "body.norm": PartLR(multiplier=0.2),
        "*": PartLR(multiplier=3.0),
        "bod?": PartLR(multiplier=0.75),
    }
    groups = configured(quiet_trainer, Stranger(SGD), parts)
    scales = {name: g["lr_multiplier"] for g in groups for name in g["params"]}
    assert scales["body.blocks.1.0.weight"] == 0.25
    assert scales["body.norm.weight"] == 0.2
    assert scales["body.blocks.0.0.weight"] == scales["body.pos_embed"] == 0.75
    assert scales["head.weight"] == 3.0


def test_a_parts_weight_decay_is_of_what_decays_in_it(quiet_trainer: MakeTrainer) -> None:
    parts = {"body": PartLR(weight_decay=0.01)}
    groups = configured(quiet_trainer, Stranger(partial(AdamW, weight_decay=0.3)), parts)
    decays = {name: g["weight_decay"] for g in groups for name in g["params"]}
    assert decays["body.blocks.0.0.weight"] == 0.01
    assert decays["head.weight"] == 0.3
    assert decays["body.pos_embed"] == decays["body.norm.weight"] == decays["head.bias"] == 0.0


class OwnGroups(Stranger):
    """Has groups of its own, with their own options."""

    def configure_optimizers(self) -> Any:
        one = self.body.get_parameter("blocks.0.0.weight")
        rest = [p for p in self.parameters() if p.ndim < 2 or p is one]
        weights = [p for p in self.parameters() if p.ndim > 1 and p is not one]
        groups = [
            {"params": weights, "lr": 0.4, "lr_multiplier": 2.0, "name": "weights"},
            {"params": rest, "weight_decay": 0.0, "betas": (0.5, 0.9), "name": "rest"},
        ]
        return AdamW(groups, lr=PEAK, weight_decay=0.3)


def test_a_modules_own_groups_are_kept_and_split(quiet_trainer: MakeTrainer) -> None:
    parts = {"body": PartLR(multiplier=0.5, weight_decay=0.2)}
    groups = configured(quiet_trainer, OwnGroups(), parts)
    rows = [(g["name"], g["lr"], g["weight_decay"], g["betas"][0]) for g in groups]
    assert rows == [
        ("weights.body.no_decay", 0.4, 0.0, 0.9),
        ("weights.body", 0.4, 0.2, 0.9),
        ("weights", 0.8, 0.3, 0.9),
        ("rest.body", PEAK * 0.5, 0.0, 0.5),
        ("rest", PEAK, 0.0, 0.5),
    ]


def test_tied_weights_count_once_by_any_name(quiet_trainer: MakeTrainer) -> None:
    model = Stranger(SGD)
    model.again = nn.Linear(4, 2)
    model.again.weight = model.head.weight
    model.again.bias = model.head.bias
    groups = configured(quiet_trainer, model, {"again": PartLR(multiplier=0.1)})
    assert {g["lr_multiplier"] for g in groups if "head.weight" in g["params"]} == {0.1}


def test_what_is_frozen_may_be_in_no_optimizer(
    quiet_trainer: MakeTrainer, plain_project: ModuleType
) -> None:
    model = plain_project.PlainClassifier(only_trainable=True)
    parts = {"body": PartLR(multiplier=0.1), "neck": PartLR(multiplier=0.5)}
    trainer = quiet_trainer(Freeze(["body"]), PretrainedLR(parts), max_steps=2)
    trainer.fit(model, plain_project.PlainData())
    found = {g["part"]: g["lr"] for g in trainer.optimizers[0].param_groups}
    assert found == {"temperature": 0.05, "neck": 0.025, "head": 0.05}


def test_the_log_tells_the_true_rates(quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    scheduler = SCHEDULERS["exponential"]
    callbacks = PretrainedLR(SMALL), LearningRateMonitor("step")
    trainer = quiet_trainer(*callbacks, logger=logger, max_epochs=1)
    fit(trainer, Stranger(scheduler=scheduler))
    with Path(logger.log_dir, "metrics.csv").open() as file:
        found = [row.get("lr-AdamW/body.layer_1") for row in csv.DictReader(file)]
    logged = [float(value) for value in found if value]
    assert logged == [rate * (0.5 * 0.75**2) for rate in plain_rates(scheduler)]


@pytest.mark.parametrize(
    ("scheduler", "shown"),
    [("one cycle", r"0\.0633 … 0\.15│.* 0\.3│"), (None, r"0\.0211 … 0\.05│.* 0\.1│")],
)
def test_the_table_tells_the_rates_to_come(
    quiet_trainer: MakeTrainer,
    capsys: pytest.CaptureFixture[str],
    scheduler: str | None,
    shown: str,
) -> None:
    model = Stranger(scheduler=SCHEDULERS.get(scheduler or ""))
    fit(quiet_trainer(PretrainedLR(SMALL), TrainableReport(), max_epochs=1), model)
    assert re.search(shown, capsys.readouterr().out, re.DOTALL)


def test_an_inactive_callback_changes_nothing(quiet_trainer: MakeTrainer) -> None:
    model = Stranger(partial(AdamW, weight_decay=0.3))
    [group] = configured(quiet_trainer, model, {})
    assert not {"name", "part", "lr_multiplier", "unscaled_lr"} & group.keys()
    assert group["weight_decay"] == 0.3


def test_the_module_is_left_as_it_was_and_can_be_fitted_again(quiet_trainer: MakeTrainer) -> None:
    model, callback = Stranger(scheduler=SCHEDULERS["exponential"]), PretrainedLR(SMALL)
    hooks = {"configure_optimizers", "lr_scheduler_step"}
    fit(quiet_trainer(callback, max_epochs=1), model)
    assert not hooks & model.__dict__.keys()
    first, model.seen = model.seen, []
    fit(quiet_trainer(callback, max_epochs=1), model)
    assert model.seen == first

    class Stop(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fit(quiet_trainer(callback, Stop(), max_epochs=1), model)
    assert not hooks & model.__dict__.keys()


def test_our_models_multiply_once(
    quiet_trainer: MakeTrainer,
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
) -> None:
    model = tiny_model(learning_rate=0.02, warmup=2, weight_decay=0.3)
    seen: list[dict[str, float]] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(rates(pl_module, trainer.optimizers[0]))

        def on_before_optimizer_step(self, *args: Any) -> None:
            seen.append(rates(model, args[-1]))

    parts = {
        "encoder": PartLR(multiplier=0.1, layer_decay=0.5),
        "connector": PartLR(multiplier=2.0),
    }
    trainer = quiet_trainer(PretrainedLR(parts), Look(), max_steps=3)
    data = ConversationDataModule(train=JSONConversations(color_questions([True] * 2)))
    trainer.fit(model, data)
    factors = [1.0] + [model.learning_rate_factor(step) for step in range(3)]
    assert factors[1] == 0.5
    for rate, factor in zip(seen, factors, strict=True):
        assert rate["encoder.network.cls_token"] == pytest.approx(0.02 * 0.1 * 0.125 * factor)
        assert rate["encoder.network.blocks.1.mlp.fc1.bias"] == pytest.approx(0.001 * factor)
        assert rate["connector.layers.0.weight"] == pytest.approx(0.04 * factor)
        assert rate["language_model.model.lm_head.weight"] == pytest.approx(0.02 * factor)
    names = [group["name"] for group in trainer.optimizers[0].param_groups]
    assert names[:3] == ["encoder.decay.layer_0", "encoder.decay.layer_1", "encoder.decay.layer_2"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"bodi": PartLR()}, r"PretrainedLR: parts must name modules of Stranger \(body, head"),
        (
            {"head": PartLR(layer_decay=0.9)},
            r"must have blocks in it, .* got 'head', a Linear without. Give it a multiplier alone",
        ),
        ({"body.pos_embed": PartLR(layer_decay=0.9)}, "got 'body.pos_embed', a parameter without"),
    ],
    ids=["unknown", "no blocks", "parameter"],
)
def test_refuses_parts_that_mean_nothing(
    quiet_trainer: MakeTrainer, parts: dict[str, PartLR], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(quiet_trainer(PretrainedLR(parts), max_steps=1), Stranger())


class Early(Stranger):
    """Makes its optimizer and scheduler too soon."""

    def __init__(self) -> None:
        super().__init__(partial(AdamW, weight_decay=0.3), SCHEDULERS["warm-up, then cosine"])
        self.early = super().configure_optimizers()

    def configure_optimizers(self) -> Any:
        return self.early


def test_an_optimizer_made_before_is_split_with_its_schedule(quiet_trainer: MakeTrainer) -> None:
    model, trainer = Early(), quiet_trainer(PretrainedLR(SMALL), max_epochs=1)
    fit(trainer, model)
    for seen, rate in zip(model.seen, plain_rates(SCHEDULERS["warm-up, then cosine"]), strict=True):
        assert seen == {name: rate * expected_scale(name) for name in seen}
    decays = {g["name"]: g["weight_decay"] for g in trainer.optimizers[0].param_groups}
    assert decays["body.layer_1"] == 0.3
    assert decays["body.layer_1.no_decay"] == 0.0


class Forgetful(Stranger):
    def configure_optimizers(self) -> Any:
        return AdamW(self.body.parameters(), lr=PEAK)


class Writing(Stranger):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 0.7


class Manual(Stranger):
    def __init__(self) -> None:
        super().__init__(scheduler=SCHEDULERS["exponential"])
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        made = super().configure_optimizers()
        return [made["optimizer"]], [made["lr_scheduler"]["scheduler"]]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Forgetful, "PretrainedLR: each parameter that trains .* got 'head.weight' in none"),
        (Writing, r"got 0.7 written to body.layer_0.no_decay .*sets_learning_rates = True on Writ"),
        (Manual, "schedulers must be stepped by Lightning, got manual optimization"),
    ],
)
def test_refuses_what_it_could_not_multiply(
    quiet_trainer: MakeTrainer, model: type[Stranger], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(quiet_trainer(PretrainedLR(SMALL), max_steps=1), model())


def test_refuses_a_second_callback(quiet_trainer: MakeTrainer) -> None:
    both = PretrainedLR(SMALL), PretrainedLR({"head": PartLR()})
    with pytest.raises(ValueError, match="one callback must name all parts, got two"):
        fit(quiet_trainer(*both, max_steps=1), Stranger())
    fit(quiet_trainer(PretrainedLR(), PretrainedLR(SMALL), max_steps=1), Stranger())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiplier": 0.0}, "PartLR: multiplier must be positive, got 0.0. Freeze what"),
        ({"layer_decay": 1.5}, "PartLR: layer_decay must be above 0 and at most 1, got 1.5"),
        ({"layer_decay": 0.0}, "PartLR: layer_decay must be above 0 and at most 1, got 0.0"),
        ({"weight_decay": -0.1}, "PartLR: weight_decay must not be negative, got -0.1"),
    ],
)
def test_refuses_values_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartLR(**options)


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. will be overridden by")
def test_by_class_path_in_another_projects_config(
    plain_project: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = """
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 4
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  limit_val_batches: 0
  callbacks:
    - class_path: lit_vlm.callbacks.PretrainedLR
      init_args:
        parts:
          body: {multiplier: 0.1}
          temperature: {multiplier: 10.0}
data: {rows: 4}
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.2}}
lr_scheduler: {class_path: torch.optim.lr_scheduler.ExponentialLR, init_args: {gamma: 0.5}}
"""
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    cli = LightningCLI(
        plain_project.PlainClassifier,
        plain_project.PlainData,
        args=["fit", "--config", "config.yaml"],
        save_config_callback=None,
    )
    [optimizer] = cli.trainer.optimizers
    found = {g["part"]: g["lr"] for g in optimizer.param_groups}
    left = 0.2 * 0.5**4  # the scheduler steps with each pass of one step
    assert found == {"temperature": 10 * left, "body": 0.1 * left, "neck": left, "head": left}
    assert cli.model.configure_optimizers()[0] == [optimizer], "the module's own hook is back"


def test_files_and_the_command_line_merge(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for name, part in (("a", "encoder: {multiplier: 0.1}"), ("b", "encoder: {layer_decay: 0.9}")):
        (tmp_path / f"{name}.yaml").write_text(f"pretrained_lr: {{parts: {{{part}}}}}")
    files = ("--config", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml")
    word = "--pretrained_lr.parts.language_model.multiplier=0.5"
    code, out, err = cli("fit", "--config", "quickstart", *files, word, "--print_config")
    assert code == 0, err
    parts = yaml.safe_load(out)["pretrained_lr"]["parts"]
    assert parts["encoder"] == {"multiplier": 0.1, "layer_decay": 0.9, "weight_decay": None}
    assert parts["language_model"]["multiplier"] == 0.5


def test_stages_multiply_their_rates_and_own_the_rates_of_their_parts(
    quiet_trainer: MakeTrainer,
) -> None:
    stages = {
        "align": Stage(trains=["head"], steps=4, learning_rate=0.2),
        "tune": Stage(
            trains=["body", "head"], steps=8, learning_rate=0.02, learning_rates={"body.norm": 0.3}
        ),
    }
    for freezing_first in (True, False):
        both = [StagedFreezing(stages, save_stages=False), PretrainedLR(SMALL)]
        model = Stranger(partial(AdamW, weight_decay=0.3))
        trainer = quiet_trainer(*(both if freezing_first else both[::-1]), max_epochs=2)
        fit(trainer, model)
        assert {seen["head.weight"] for seen in model.seen[:4]} == {0.2}
        assert len(model.seen) == STEPS
        for seen in model.seen[4:]:
            expected = {name: 0.02 * expected_scale(name) for name in seen}
            norm = dict.fromkeys(("body.norm.weight", "body.norm.bias"), 0.3)
            assert seen == pytest.approx({**expected, **norm})
        names = [group["name"] for group in trainer.optimizers[0].param_groups]
        assert len(set(names)) == len(names) == 8


class Sharded(Stranger):
    """Is split between processes with FSDP2."""

    def configure_model(self) -> None:
        if isinstance(self.head.weight, DTensor) or self.device_mesh is None:
            return
        for block in self.body.blocks:
            fully_shard(block, mesh=self.device_mesh["data_parallel"])
        fully_shard(self, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self(batch)

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.body(batch)).square().mean()


@pytest.mark.slow
def test_from_the_command_line_and_resumed(
    cli: Callable[..., tuple[int, str, str]], cli_folder: Path, tmp_path: Path
) -> None:
    folder = ("--trainer.default_root_dir", tmp_path / "run")
    words = ("fit", "--config", cli_folder / "tiny.yaml", *folder, "--test_after_fit=false")
    parts = (
        "--pretrained_lr.parts.encoder.layer_decay=0.5",
        "--pretrained_lr.parts.language_model.multiplier=0.1",
    )
    code, _, err = cli(*words, *parts, "--trainer.max_epochs=1")
    assert code == 0, err
    code, _, err = cli(*words, *parts, "--trainer.max_epochs=2", "--ckpt_path=last")
    assert code == 0, err
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["lr/connector"]]
    assert len(rows) == 4
    for row in rows:
        rate = float(row["lr/connector"])
        assert float(row["lr/encoder"]) == pytest.approx(0.5 * rate), "the last of its blocks"
        assert float(row["lr/language_model"]) == pytest.approx(0.1 * rate)
    code, _, err = cli(*words, "--trainer.max_epochs=2", parts[1], "--ckpt_path=last")
    assert code == 1
    assert "PretrainedLR: a run must be resumed with the parameter groups it was saved" in err


@IN_THE_MIDDLE
@pytest.mark.parametrize("strategy", [DDPStrategy, StagedModelParallel])
def test_two_processes_have_the_rates_and_weights_of_one(
    quiet_trainer: MakeTrainer,
    two_ranks: Callable[[Callable[[], Any]], list[Any]],
    tmp_path: Path,
    strategy: type[Strategy],
) -> None:
    def train(devices: int, max_steps: int, ckpt_path: Path | None = None, **options: Any) -> Any:
        model = Sharded(scheduler=SCHEDULERS["one cycle"])
        trainer = quiet_trainer(
            PretrainedLR(SMALL), devices=devices, max_steps=max_steps, **options
        )
        rows: Any = torch.linspace(-1, 1, 32).reshape(8, 4)
        loader = DataLoader(rows, batch_size=len(rows) // devices)
        trainer.fit(model, loader, ckpt_path=ckpt_path)
        return model, trainer

    def job() -> Any:
        _, trainer = train(2, 3, strategy=strategy())
        trainer.save_checkpoint(tmp_path / "middle.ckpt")
        model, _ = train(2, 6, tmp_path / "middle.ckpt", strategy=strategy())
        whole = [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in model.parameters()]
        return isinstance(model.head.weight, DTensor), model.seen, whole

    alone, _ = train(1, 6)
    for is_split, seen, weights in two_ranks(job):
        assert is_split == (strategy is not DDPStrategy)
        assert seen == alone.seen[3:]
        assert_close(weights, [p.detach() for p in alone.parameters()], atol=1e-5, rtol=0)
