from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_vlm.callbacks import BestCheckpoint


class ScriptedScores(LightningModule):
    """Somebody else's module, whose validation figures follow a script."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/accuracy", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("scores", "mode", "best_epoch"),
    [([0.1, 0.4, 0.2, 0.3], "max", 1), ([0.3, 0.2, 0.1, 0.4], "min", 2), ([0.5] * 4, "max", 0)],
)
def test_keeps_one_file_with_the_best_figure(
    tmp_path: Path, scores: list[float], mode: str, best_epoch: int
) -> None:
    best = fit(tmp_path, scores, mode=mode)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best.ckpt"]
    content = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["epoch"] == best_epoch
    assert Path(best.best_model_path) == tmp_path / "checkpoints" / "best.ckpt"


class Named(ScriptedScores):
    """It says what its best state is chosen by, and logs no accuracy."""

    best_by: str | None = "val/mine"

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/mine", self.scores[self.current_epoch])


class Nameless(Named):
    best_by = None


def test_the_module_says_what_is_monitored_unless_the_user_does(tmp_path: Path) -> None:
    best = fit(tmp_path, [0.1, 0.4, 0.2], module=Named)
    assert (best_in(tmp_path), best.state_key) == (2, "BestCheckpoint[val/mine]")
    best = fit(tmp_path / "asked", [0.1, 0.4, 0.2], module=Nameless, monitor="val/mine")
    assert best_in(tmp_path / "asked") == 2
    # What a run of models that answer is kept under, whether it was asked for or not.
    assert fit(tmp_path / "usual", [0.1]).state_key == "BestCheckpoint[val/accuracy]"


def test_a_resumed_run_takes_back_the_score_of_what_its_module_says(tmp_path: Path) -> None:
    scores = [0.1, 0.5, 0.3, 0.4]
    fit(tmp_path, scores, SaveBeforeValidation(2), module=Named)
    best = fit(tmp_path, scores, module=Named, resume=tmp_path / "stopped.ckpt")
    assert (best_in(tmp_path), float(best.best_model_score)) == (2, 0.5)


def test_keeps_no_best_file_where_no_figure_says_what_is_best(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    best = fit(tmp_path, [0.1, 0.4], module=Nameless)
    assert (best.best_model_path, best.state_key) == ("", "BestCheckpoint[None]")
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()
    assert caplog.text.count("No best.ckpt is kept: Nameless logs no figure") == 1


@pytest.mark.parametrize(("module", "asked"), [(Named, "val/accuracy"), (ScriptedScores, "val/x")])
def test_names_what_is_logged_where_the_monitored_figure_is_not(
    tmp_path: Path, module: type[ScriptedScores], asked: str
) -> None:
    logged = "val/mine" if module is Named else "val/accuracy"
    with pytest.raises(ValueError, match=f"validation logs, got '{asked}'; logged are: {logged}."):
        fit(tmp_path, [0.1, 0.4], module=module, monitor=asked)


class SaveBeforeValidation(Callback):
    """Write a checkpoint at a pass's last step, as last and stage checkpoints are."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, *unused: Any) -> None:
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "stopped.ckpt")


def fit(
    folder: Path,
    scores: list[float],
    *callbacks: Callback,
    mode: str = "max",
    resume: Any = None,
    module: type[ScriptedScores] = ScriptedScores,
    monitor: str | None = None,
) -> Any:
    best = BestCheckpoint(monitor, mode="max" if mode == "max" else "min")
    rows: Any = torch.ones(1, 1)
    loader: DataLoader[Tensor] = DataLoader(rows)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(scores),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=str(folder),
        callbacks=[best, *callbacks],
    )
    trainer.fit(module(scores), loader, loader, ckpt_path=resume)
    return best


def best_in(folder: Path) -> int:
    return int(torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"])


def test_a_resumed_run_knows_the_score_of_the_step_it_resumes_at(tmp_path: Path) -> None:
    scores = [0.1, 0.5, 0.3, 0.4]
    fit(tmp_path, scores, SaveBeforeValidation(1))
    assert best_in(tmp_path) == 2
    best = fit(tmp_path, scores, resume=tmp_path / "stopped.ckpt")
    assert best_in(tmp_path) == 2  # 0.3 and 0.4 would have been better than 0.1
    assert float(best.best_model_score) == 0.5


def test_a_best_state_from_beyond_the_step_that_a_run_resumes_at_is_forgotten(
    tmp_path: Path,
) -> None:
    fit(tmp_path, [0.1, 0.2, 0.9, 0.4], SaveBeforeValidation(1))
    assert best_in(tmp_path) == 3
    best = fit(tmp_path, [0.1, 0.2, 0.3, 0.35], resume=tmp_path / "stopped.ckpt")
    assert best_in(tmp_path) == 4
    assert float(best.best_model_score) == pytest.approx(0.35)
    # Without a validation of its own, a run has no best state.
    fit(tmp_path, [0.1, 0.2, 0.9, 0.4], SaveBeforeValidation(1))
    rows: Any = torch.ones(1, 1)
    best = BestCheckpoint()
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "max_epochs": 3}
    options |= {"enable_model_summary": False, "limit_val_batches": 0, "log_every_n_steps": 1}
    trainer = Trainer(
        accelerator="cpu", default_root_dir=str(tmp_path), callbacks=[best], **options
    )
    stopped = tmp_path / "stopped.ckpt"
    loader: DataLoader[Tensor] = DataLoader(rows)
    trainer.fit(ScriptedScores([0.0] * 3), loader, loader, ckpt_path=stopped)
    assert best.best_model_path == ""
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()
