from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from lit_vlm.callbacks import Freeze, RNGState, Stage, StagedFreezing

MakeTrainer = Callable[..., Trainer]


class Watcher(Callback):
    """Keep, for each optimizer step, what trained, what moved, and the optimizer's state."""

    def __init__(self) -> None:
        self.stages: list[float] = []
        self.trained: list[set[str]] = []
        self.moved: list[set[str]] = []
        self.with_state: list[set[str]] = []
        self.rates: list[list[float]] = []
        self.losses: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {n: v.clone() for n, v in pl_module.state_dict().items()}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        self.before = {n: v.clone() for n, v in pl_module.state_dict().items()}
        self.trained.append({n for n, p in pl_module.named_parameters() if p.requires_grad})
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = pl_module.state_dict()
        moved = {n for n, v in now.items() if not torch.equal(v, self.before[n])}
        self.moved.append({name for name in moved if "num_batches" not in name})
        held = trainer.optimizers[0].state
        self.with_state.append({n for n, p in pl_module.named_parameters() if held.get(p)})
        self.stages.append(float(trainer.callback_metrics["stage"]))
        self.losses.append(outputs["loss"])


def parts(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


TWO = {
    "align": Stage(trains=["neck"], steps=3),
    "tune": Stage(trains=["neck", "head", "body"], steps=4),
}


@pytest.mark.parametrize("only_trainable", [False, True])
def test_each_stage_trains_its_parts_of_a_strangers_module(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, only_trainable: bool
) -> None:
    module = plain_project.PlainClassifier(only_trainable=only_trainable)
    watcher = Watcher()
    staged = StagedFreezing(TWO)
    quiet_trainer(staged, watcher, max_epochs=9).fit(module, plain_project.PlainData())
    assert watcher.stages == [1.0] * 3 + [2.0] * 4  # the plan ends the run
    assert [parts(names) for names in watcher.moved] == [{"neck"}] * 3 + [
        {"neck", "head", "body"}
    ] * 4
    assert parts(watcher.with_state[2]) == {"neck"}
    assert staged.stage_name == "tune"
    assert "configure_optimizers" not in module.__dict__  # the hook is the class's own again


def test_what_a_stage_freezes_evaluates_and_what_it_thaws_trains_again(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    modes = []

    class Modes(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
            body: Any = pl_module.body
            modes.append((body[1].training, body[2].training, pl_module.training))

    stages = {"one": Stage(trains=["head"], steps=1), "two": Stage(trains=["body"], steps=1)}
    stages["three"] = Stage(trains=["body.0", "temperature"], steps=1)
    trainer = quiet_trainer(StagedFreezing(stages), Modes())
    trainer.fit(plain_project.PlainClassifier(), plain_project.PlainData())
    assert modes == [(False, False, True), (True, True, True), (False, False, True)]


def test_parameters_and_ranges_of_blocks_can_be_named(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    watcher = Watcher()
    stages = {
        "all": Stage(
            trains=["body", "temperature"], keeps_frozen=["body.0.bias", "body.1"], steps=1
        ),
        "late": Stage(trains=["body.1-", "h*"], steps=1),
    }
    module = plain_project.PlainClassifier()
    quiet_trainer(StagedFreezing(stages), watcher).fit(module, plain_project.PlainData())
    first, second = watcher.trained
    assert first == {"body.0.weight", "temperature"}
    assert second == {"body.1.weight", "body.1.bias", "head.weight", "head.bias"}


def run(
    make: MakeTrainer,
    module: LightningModule,
    data: Any,
    stages: dict[str, Stage],
    checkpoint: Path | None = None,
    **options: Any,
) -> Watcher:
    watcher = Watcher()
    trainer = make(StagedFreezing(stages), RNGState(), watcher, **options)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return watcher


def weights(module: LightningModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("keep", [False, True])
def test_the_optimizer_starts_clean_in_each_stage_unless_it_is_kept(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, keep: bool
) -> None:
    """Against one fit per stage, each with an optimizer of its own."""
    second = Stage(trains=["neck", "head"], steps=3, keep_optimizer=keep)
    stages = {"one": Stage(trains=["neck"], steps=3), "two": second}
    seed_everything(1, verbose=False)
    module = plain_project.PlainClassifier()
    data = plain_project.PlainData(rows=12)  # a stage is a pass, so that fits see the same rows
    start = weights(module)
    together = run(quiet_trainer, module, data, stages).losses
    ended = weights(module)
    seed_everything(1, verbose=False)
    again = plain_project.PlainClassifier()
    assert all(torch.equal(v, start[n]) for n, v in again.state_dict().items())
    apart = [
        loss
        for name, stage in stages.items()
        for loss in run(quiet_trainer, again, data, {name: stage}).losses
    ]
    equal = [torch.equal(a, b) for a, b in zip(together, apart, strict=True)]
    # The first loss of a stage is computed before its optimizer has done anything.
    assert equal == [True] * 4 + [not keep] * 2
    assert all(torch.equal(v, ended[n]) for n, v in again.state_dict().items()) != keep


@pytest.mark.parametrize("killed_at", [2, 3, 5, 7, 8])
def test_a_resumed_run_goes_on_in_its_stage_bit_for_bit(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, tmp_path: Path, killed_at: int
) -> None:
    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, *unused: Any) -> None:
            if trainer.global_step == killed_at:
                trainer.save_checkpoint(tmp_path / "killed.ckpt")

    stages = {
        "one": Stage(trains=["neck"], steps=3, learning_rate=0.1),
        "two": Stage(trains=["head", "body"], steps=4, learning_rate=0.02, schedule="cosine"),
        "three": Stage(trains=["neck", "head"], share=0.25, keep_optimizer=True, warmup=2),
    }
    seed_everything(3, verbose=False)
    # Its loader cannot be resumed in the middle, so that a pass is one batch.
    module, data = plain_project.PlainClassifier(), plain_project.PlainData(rows=4)
    watcher = Watcher()
    callbacks = (StagedFreezing(stages), RNGState(), watcher, Keep())
    quiet_trainer(*callbacks, max_steps=12).fit(module, data)
    ended = weights(module)

    seed_everything(4, verbose=False)
    other = plain_project.PlainClassifier()
    resumed = run(quiet_trainer, other, data, stages, tmp_path / "killed.ckpt", max_steps=12)
    assert resumed.stages == watcher.stages[killed_at:]
    assert resumed.rates == watcher.rates[killed_at:]
    assert all(map(torch.equal, resumed.losses, watcher.losses[killed_at:]))
    assert all(torch.equal(v, ended[n]) for n, v in other.state_dict().items())


def test_each_stage_ends_with_a_checkpoint_of_its_own(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    module, data = plain_project.PlainClassifier(), plain_project.PlainData(rows=24)
    options: dict[str, Any] = {"accumulate_grad_batches": 2}
    run(quiet_trainer, module, data, TWO, **options)
    kept = {path.stem: torch.load(path) for path in sorted(tmp_path.rglob("*.ckpt"))}
    assert list(kept) == ["stage-align", "stage-tune"]
    assert [file["global_step"] for file in kept.values()] == [3, 7]
    assert [file["callbacks"]["StagedFreezing"]["stage"] for file in kept.values()] == [
        "align",
        "tune",
    ]
    assert all(
        torch.equal(v, kept["stage-tune"]["state_dict"][n]) for n, v in weights(module).items()
    )
    # From a stage's end the run goes on with the next, as it did.
    other = plain_project.PlainClassifier()
    align = tmp_path / "checkpoints" / "stage-align.ckpt"
    resumed = run(quiet_trainer, other, data, TWO, align, **options)
    assert resumed.stages == [2.0] * 8


def rates_by_part(watcher: Watcher, trainer: Trainer) -> list[dict[str, float]]:
    names = [group.get("name", "all") for group in trainer.optimizers[0].param_groups]
    return [dict(zip(names, rates, strict=True)) for rates in watcher.rates]


def test_stages_have_learning_rates_and_schedules_of_their_own(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    stages = {
        "one": Stage(trains=["neck"], steps=2),
        "two": Stage(
            trains=["neck", "head", "body"],
            steps=4,
            learning_rate=0.01,
            learning_rates={"head": 0.5, "body.1": 0.3, "body": 0.2},
            warmup=2,
            schedule="linear",
        ),
    }
    watcher = Watcher()
    trainer = quiet_trainer(StagedFreezing(stages), watcher)
    trainer.fit(plain_project.PlainClassifier(lr=0.05), plain_project.PlainData())
    rates = rates_by_part(watcher, trainer)
    assert len(rates) == 6
    assert set(rates[0].values()) == {0.05}  # the optimizer's own, without a schedule
    own = {"temperature", "neck"}
    factors = [0.5, 1.0, 1.0, 0.5]  # warm-up over two steps, then down over the other two
    for step, factor in zip(rates[2:], factors, strict=True):
        assert {step[name] for name in own} == {0.01 * factor}
        assert step["head.head"] == 0.5 * factor
        # Of several patterns the last one counts.
        assert step["body.body.1.body"] == step["body.body"] == 0.2 * factor


def test_our_models_begin_their_own_schedule_anew_in_each_stage(
    tiny_model: Any, color_questions: Any, quiet_trainer: MakeTrainer
) -> None:
    from lit_vlm.data import ConversationDataModule, JSONConversations
    from lit_vlm.optim import schedule_factor

    model = tiny_model(learning_rate=0.02, warmup=1, schedule="cosine", min_learning_rate=0.1)
    data = ConversationDataModule(JSONConversations(color_questions([True] * 8)), batch_size=2)
    stages = {
        "align": Stage(trains=["connector"], epochs=1),
        "tune": Stage(trains=["connector", "language_model"], share=0.5, learning_rate=0.004),
    }
    watcher = run(quiet_trainer, model, data, stages, max_epochs=2)
    factors = [schedule_factor(step, 4, 1, "cosine", 0.1) for step in range(4)]
    assert [set(rates) for rates in watcher.rates] == [
        {peak * factor} for peak in (0.02, 0.004) for factor in factors
    ]
    assert [parts(names) for names in watcher.with_state] == [{"connector"}] * 4 + [
        {"connector", "language_model"}
    ] * 4


def test_says_when_the_run_ends_before_a_stage_begins(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    trainer = quiet_trainer(StagedFreezing(TWO), max_steps=2)
    with pytest.warns(UserWarning, match="ends after 2 steps, in stage align, and"):
        trainer.fit(plain_project.PlainClassifier(), plain_project.PlainData())


def test_says_which_frozen_weights_move_with_those_they_are_tied_to(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    module = plain_project.PlainClassifier()
    module.body[0].weight = module.head.weight = torch.nn.Parameter(torch.randn(8, 4))
    module.forward = lambda rows: module.body[0](rows)[:, :2]
    stages = {"one": Stage(trains=["head"], steps=1)}
    with pytest.warns(UserWarning, match="body.0.weight moves in stage 'one' .* as head.weight"):
        quiet_trainer(StagedFreezing(stages)).fit(module, plain_project.PlainData())


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([StagedFreezing(TWO), Freeze(["head"])], "got a Freeze callback too"),
        ([StagedFreezing({"one": Stage(trains=["body.2"])})], "no parameter for stage 'one'"),
        ([StagedFreezing({"one": Stage(trains=["hed"])})], "trains must name .* got 'hed'"),
        (
            [StagedFreezing({"one": Stage(trains=["head"], learning_rates={"hed": 0.1})})],
            "learning_rates must name .* got 'hed'",
        ),
        (
            [StagedFreezing({"one": Stage(trains=["head"], schedule="cosine")})],
            "must know where stage 'one' ends",
        ),
    ],
)
def test_refuses_what_cannot_be_done(
    plain_project: ModuleType,
    quiet_trainer: MakeTrainer,
    callbacks: list[Callback],
    message: str,
) -> None:
    module = plain_project.PlainClassifier()
    with pytest.raises(ValueError, match=message):
        quiet_trainer(*callbacks).fit(module, plain_project.PlainData())


def test_a_scheduler_of_the_module_goes_on_unless_the_stages_set_rates(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Scheduled(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            halve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
            return [optimizer], [{"scheduler": halve, "interval": "step"}]

    watcher = Watcher()
    quiet_trainer(StagedFreezing(TWO), watcher).fit(Scheduled(lr=0.64), plain_project.PlainData())
    assert watcher.rates == [[0.64 * 0.5**step] for step in range(7)]
    stages = {"one": Stage(trains=["head"], steps=1, learning_rate=0.1)}
    with pytest.raises(ValueError, match="by a scheduler of Scheduled, got both"):
        quiet_trainer(StagedFreezing(stages)).fit(Scheduled(), plain_project.PlainData())


def test_a_parameter_that_no_optimizer_holds_is_named_before_training(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Partial(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.neck.parameters(), lr=0.1)

    with pytest.raises(ValueError, match=r"got none of body.0.weight and 5 more"):
        quiet_trainer(StagedFreezing(TWO)).fit(Partial(), plain_project.PlainData())


def test_a_module_can_be_fitted_again_with_another_plan(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    module, staged = plain_project.PlainClassifier(), StagedFreezing(TWO)
    for _ in range(2):
        watcher = Watcher()
        quiet_trainer(staged, watcher).fit(module, plain_project.PlainData())
        assert watcher.stages == [1.0] * 3 + [2.0] * 4
    watcher = Watcher()
    stages = {"one": Stage(trains=["head"], steps=2)}
    quiet_trainer(StagedFreezing(stages), watcher).fit(module, plain_project.PlainData())
    assert [parts(names) for names in watcher.moved] == [{"head"}] * 2


def test_layers_that_configure_model_makes_are_found(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Late(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def configure_model(self) -> None:
            if not hasattr(self, "late"):
                self.late = torch.nn.Linear(4, 4)

        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(self.late(rows))

    watcher = Watcher()
    stages = {"one": Stage(trains=["late"], steps=2), "two": Stage(trains=["head"], steps=1)}
    quiet_trainer(StagedFreezing(stages), watcher).fit(Late(), plain_project.PlainData())
    assert [parts(names) for names in watcher.moved] == [{"late"}] * 2 + [{"head"}]
    trainer = quiet_trainer(StagedFreezing({"one": Stage(trains=["early"], steps=2)}))
    with pytest.raises(ValueError, match=r"must name modules of Late \(.*late and what is inside"):
        trainer.fit(Late(), plain_project.PlainData())


def test_rates_that_a_plan_gains_on_resume_are_obeyed(
    tiny_model: Any, color_questions: Any, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    from lit_vlm.data import ConversationDataModule, JSONConversations

    data = ConversationDataModule(JSONConversations(color_questions([True] * 8)), batch_size=2)
    options: dict[str, Any] = {"learning_rate": 0.02, "schedule": "constant", "warmup": 0}
    before = Stage(trains=["encoder", "connector"], steps=2)
    run(quiet_trainer, tiny_model(**options), data, {"one": before})
    saved = tmp_path / "checkpoints" / "stage-one.ckpt"
    after = Stage(trains=["encoder", "connector"], steps=4, learning_rates={"encoder": 0.001})
    watcher = Watcher()
    trainer = quiet_trainer(StagedFreezing({"one": after}), watcher)
    trainer.fit(tiny_model(**options), data, ckpt_path=saved)
    groups = trainer.optimizers[0].param_groups
    rates = {group["part"]: rate for group, rate in zip(groups, watcher.rates[-1], strict=True)}
    assert (rates["encoder"], rates["connector"]) == (0.001, 0.02)


def test_groups_that_a_checkpoint_does_not_have_are_refused(
    plain_project: ModuleType, quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    data = plain_project.PlainData(rows=4)
    run(quiet_trainer, plain_project.PlainClassifier(), data, TWO)
    saved = tmp_path / "checkpoints" / "stage-align.ckpt"
    apart = Stage(trains=["neck", "head"], steps=9, learning_rates={"head": 0.1})
    with pytest.raises(
        ValueError, match="resumed with the parameter groups that it was saved with"
    ):
        run(quiet_trainer, plain_project.PlainClassifier(), data, {"align": apart}, saved)


def test_an_optimizer_that_was_made_before_has_the_stages_rates_too(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Early(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.made = torch.optim.SGD(self.parameters(), lr=0.01)

        def configure_optimizers(self) -> Any:
            return self.made

    watcher = Watcher()
    stages = {"one": Stage(trains=["head", "neck"], steps=1, learning_rates={"head": 0.5})}
    trainer = quiet_trainer(StagedFreezing(stages), watcher)
    trainer.fit(Early(), plain_project.PlainData())
    assert rates_by_part(watcher, trainer)[0]["head.head"] == 0.5


def test_after_an_error_or_the_end_module_and_trainer_are_as_before(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Fails(Callback):
        def on_train_batch_end(self, trainer: Trainer, *unused: Any) -> None:
            if trainer.global_step == 2:
                raise RuntimeError("stop")

    module = plain_project.PlainClassifier()
    trainer = quiet_trainer(StagedFreezing(TWO), Fails())
    with pytest.raises(RuntimeError, match="stop"):
        trainer.fit(module, plain_project.PlainData())
    assert "configure_optimizers" not in module.__dict__
    assert trainer.max_steps == -1
    trainer = quiet_trainer(StagedFreezing(TWO))
    trainer.fit(module, plain_project.PlainData())
    assert (trainer.global_step, trainer.max_steps) == (7, -1)


def test_warns_of_parameters_that_the_model_itself_keeps_frozen(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    module = plain_project.PlainClassifier()
    module.head.bias.requires_grad_(False)
    stages = {"one": Stage(trains=["head"], steps=1)}
    with pytest.warns(UserWarning, match="'one' trains 1 parameters .* the first .* head.bias"):
        quiet_trainer(StagedFreezing(stages)).fit(module, plain_project.PlainData())


def test_a_train_method_of_the_modules_own_has_the_last_word(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    class Still(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.body[1].eval()
            return self

    module = Still()
    before = module.body[1].running_mean.clone()
    stages = {"one": Stage(trains=["head"], steps=1), "two": Stage(trains=["*"], steps=2)}
    quiet_trainer(StagedFreezing(stages)).fit(module, plain_project.PlainData())
    assert torch.equal(module.body[1].running_mean, before)


def test_refuses_what_counts_steps_or_batches_otherwise(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    other = quiet_trainer(StagedFreezing(TWO), GradientAccumulationScheduler({0: 2}))
    with pytest.raises(ValueError, match="got a GradientAccumulationScheduler too"):
        other.fit(plain_project.PlainClassifier(), plain_project.PlainData())
    module = plain_project.PlainClassifier()
    module.automatic_optimization = False
    stages = {"one": Stage(trains=["head"], epochs=1)}
    with pytest.raises(ValueError, match="with manual optimization a stage's length must be steps"):
        quiet_trainer(StagedFreezing(stages)).fit(module, plain_project.PlainData())


def test_an_optimizer_around_another_multiplies_once(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    from lit_vlm.callbacks import PartLR, PretrainedLR

    class Around(torch.optim.Optimizer):
        """Hand its groups on, as sharpness-aware minimisation (SAM) does."""

        def __init__(self, weights: Any) -> None:
            super().__init__(weights, {"lr": 0.1})
            self.inner = torch.optim.SGD(self.param_groups, lr=0.1)
            self.param_groups = self.inner.param_groups

        def step(self, closure: Any = None) -> Any:
            return self.inner.step(closure)

    class Sharp(plain_project.PlainClassifier):  # type: ignore[name-defined, misc]
        def configure_optimizers(self) -> Any:
            return Around(self.parameters())

    watcher = Watcher()
    stages = {"one": Stage(trains=["*"], steps=1, learning_rates={"head": 0.5})}
    callbacks = (StagedFreezing(stages), PretrainedLR({"body": PartLR(multiplier=0.1)}), watcher)
    trainer = quiet_trainer(*callbacks)
    trainer.fit(Sharp(), plain_project.PlainData())
    rates = rates_by_part(watcher, trainer)[0]
    assert {rate for name, rate in rates.items() if "body" in name} == {0.1 * 0.1}
    assert {rate for name, rate in rates.items() if "head" in name} == {0.5}
    assert {rate for name, rate in rates.items() if "neck" in name} == {0.1}


def test_complex_parameters_thaw_like_others(
    plain_project: ModuleType, quiet_trainer: MakeTrainer
) -> None:
    from lit_vlm.freezing import train_only

    module = plain_project.PlainClassifier()
    module.turn = torch.nn.Parameter(torch.ones(2, dtype=torch.cfloat))
    train_only(module, ["head"])
    assert not module.turn.requires_grad
    train_only(module, ["turn"])
    assert module.turn.requires_grad
