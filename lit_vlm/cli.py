"""``lit-vlm fit | validate | test | predict``, on top of LightningCLI."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

# The imports of whole families let configs name their classes without a module.
import lit_vlm.connectors
import lit_vlm.encoders
import lit_vlm.fusions
import lit_vlm.language_models
import lit_vlm.prompts
from lit_vlm.callbacks import (
    AnswerReport,
    BestCheckpoint,
    CurvePlot,
    LastCheckpoint,
    RNGState,
    TrainableReport,
)
from lit_vlm.checkpoints import data_config, model_config, read_checkpoint
from lit_vlm.config_files import find_config
from lit_vlm.csv_logger import AppendingCSVLogger
from lit_vlm.model import VisionLanguageModel  # noqa: F401
from lit_vlm.parser import FriendlyParser
from lit_vlm.run_folder import CHECKPOINTS, check_writable, make_room, resolve_checkpoint

_STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
_CONVERSATIONS = (".json", ".jsonl")


class LitVLMCLI(LightningCLI):
    """LightningCLI with run folders, checkpoints that suffice, and readable errors."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Add the two checkpoints, the free variables and what commands take beside a config."""
        parser.add_argument(
            "--vars", type=dict[str, Any], default={}, help="Free variables, used as ${vars.name}."
        )
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="File for the generated answers (test, predict); JSON Lines.",
        )
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=True,
            help="Whether fit ends by testing the best checkpoint, if there is test data.",
        )

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the words given, which ``run`` has prepared from the command line's."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the config alone: the command line beats the checkpoint."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Choose the run folder, and give the trainer its logger and callbacks."""
        settings = self._get(self.config_init, "trainer")
        self.asked = self._get(self.config_init, "ckpt_path")
        self.folder = Path(settings["default_root_dir"] or self._default_folder())
        settings["default_root_dir"] = str(self.folder)
        if settings["logger"] in (None, True):
            fit = self.subcommand == "fit"
            settings["logger"] = AppendingCSVLogger(self.folder) if fit else False
        if self.subcommand != "fit":
            self.save_config_callback = None
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, AnswerReport(self._output()))
        return trainer

    def before_fit(self) -> None:
        """Prepare the run folder, or find the checkpoint to resume from."""
        if self.asked is None:
            self._make_room()
            return
        path = resolve_checkpoint(self.asked, self.folder)
        self._set_checkpoint(path)
        self._report_differences(read_checkpoint(path))
        check_writable(self.folder)

    def after_fit(self) -> None:
        """Test the best checkpoint of the run, or the last state if there is none."""
        trainer: Any = self.trainer
        has_test_data = bool(getattr(self.datamodule, "sources", {}).get("test", True))
        if not self._get(self.config_init, "test_after_fit") or not has_test_data:
            return
        if trainer.interrupted or trainer.fast_dev_run:
            return
        # The path is taken now: testing a checkpoint restores the callbacks' state, too.
        best = self._callback(BestCheckpoint).best_model_path or None
        rank_zero_info(f"Testing {best or 'the last state'}")
        trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False)

    def before_validate(self) -> None:
        """Find the checkpoint."""
        self._find_checkpoint()

    def before_test(self) -> None:
        """Find the checkpoint."""
        self._find_checkpoint()

    def before_predict(self) -> None:
        """Find the checkpoint."""
        self._find_checkpoint()

    def predict(self, **kwargs: Any) -> None:
        """Predict; the answers go to the file, not to memory."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def test(self, **kwargs: Any) -> None:
        """Test; the table is the report's."""
        self.trainer.test(**{**kwargs, "verbose": False})

    def _find_checkpoint(self) -> None:
        if self.asked is None:
            raise ValueError(f"{self.subcommand} must know a trained model: give --ckpt_path.")
        path = resolve_checkpoint(self.asked, self.folder)
        read_checkpoint(path)
        self._set_checkpoint(path)

    def _set_checkpoint(self, path: str) -> None:
        self.config_init[str(self.subcommand)]["ckpt_path"] = path

    def _default_folder(self) -> Path:
        if self.asked in (None, "last", "best"):
            return Path("runs")
        path = Path(self.asked)
        return path.parent.parent if path.parent.name == CHECKPOINTS else path.parent

    def _output(self) -> str | None:
        given = self._get(self.config_init, "output")
        if given is not None or self.subcommand == "fit" or self.asked is None:
            return given
        return str(self.folder / f"predictions-{Path(self.asked).stem}.jsonl")

    def _callback(self, kind: type[Any]) -> Any:
        trainer: Any = self.trainer
        return next(callback for callback in trainer.callbacks if isinstance(callback, kind))

    @rank_zero_only
    def _make_room(self) -> None:
        if moved := make_room(self.folder):
            rank_zero_info(f"The earlier run in {self.folder} is now in {moved}.")

    @rank_zero_only
    def _report_differences(self, checkpoint: dict[str, Any]) -> None:
        configured = (
            _flat(self.model.rebuild_config()) if hasattr(self.model, "rebuild_config") else {}
        )
        stored = _flat(model_config(checkpoint))
        for key in sorted(configured.keys() | stored.keys()):
            now, then = configured.get(key), stored.get(key)
            if now != then:
                rank_zero_info(f"{key}: {now!r} is used, the checkpoint was made with {then!r}")


def run(command: str, words: list[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        command: one of them.
        words: what follows it on the command line.

    Raises:
        SystemExit: with 2, if the command line or a config is wrong.
    """
    _quieten()
    # Interpolations in a config are then relative to the file's own keys, not the subcommand's.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    LitVLMCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=[command, *prepare_words(command, words)],
        parser_class=FriendlyParser,
        parser_kwargs={"parser_mode": "omegaconf+", "prog": "lit-vlm"},
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "plugins": [{"class_path": "lit_vlm.checkpoint_io.AtomicCheckpointIO"}],
            "callbacks": [TrainableReport(), CurvePlot(), RNGState()],
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        },
    )


def prepare_words(command: str, words: list[str]) -> list[str]:
    """Resolve config names, and put what a checkpoint knows before what the user says.

    ``--config NAME`` becomes a path. Without a config, ``--ckpt_path`` supplies model and data.
    ``--data FILE.jsonl`` (or ``.json``) becomes a data module that reads the file.
    """
    words = _separate(words)
    first: list[str] = []
    has_config = False
    for i, word in enumerate(words):
        if word in ("--config", "-c") and i + 1 < len(words):
            words[i + 1] = find_config(words[i + 1])
            has_config = True
    known: dict[str, Any] = {}
    checkpoint = _value_after("--ckpt_path", words)
    if not has_config and command != "fit" and checkpoint not in (None, "last", "best"):
        content = read_checkpoint(str(checkpoint))
        known["model"] = model_config(content)
        if data := data_config(content):
            known["data"] = data
    file = _value_after("--data", words)
    if file is not None and file.endswith(_CONVERSATIONS):
        at = words.index("--data")
        del words[at : at + 2]
        known["data"] = _reading(file, known.get("data"), _STAGES[command])
    if known:
        first = ["--config", json.dumps(known)]
    return [*first, *words]


def _reading(file: str, data: dict[str, Any] | None, stage: str) -> dict[str, Any]:
    if not Path(file).is_file():
        raise FileNotFoundError(
            f"--data must be a file of conversations, got {file}: no such file."
        )
    source = {
        "class_path": "lit_vlm.data.JSONConversations",
        "init_args": {"path": file},
    }
    data = data or {"class_path": "lit_vlm.data.ConversationDataModule", "init_args": {}}
    return {**data, "init_args": {**data["init_args"], stage: source}}


def _separate(words: list[str]) -> list[str]:
    """Split ``--config=x`` and the like into two words."""
    separate: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        split = bool(equals) and name in ("--config", "-c", "--ckpt_path", "--data")
        separate += [name, value] if split else [word]
    return separate


def _value_after(option: str, words: list[str]) -> str | None:
    if option in words[:-1]:
        return words[words.index(option) + 1]
    return None


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        flat.update(_flat(value, inner))
    return flat


def _quieten() -> None:
    # Lightning on this torch warns once per data loader, and advertises two of its products.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip: For" not in record.getMessage())


_ = (
    lit_vlm.connectors,
    lit_vlm.encoders,
    lit_vlm.fusions,
    lit_vlm.language_models,
    lit_vlm.prompts,
)
