"""``lit-vlm fit | validate | test | predict``, on top of LightningCLI."""

import signal
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_vlm.callbacks import (
    AnswerReport,
    BestCheckpoint,
    CheckpointSelection,
    CurvePlot,
    FeatureEvaluation,
    FeatureWriter,
    LastCheckpoint,
    PretrainedLR,
    RNGState,
    StagedFreezing,
    TrainableReport,
)
from lit_vlm.checkpoints import (
    FOR_ENGINE,
    IN_SHARDS,
    NOT_TESTED,
    is_deepspeed_checkpoint,
    is_sharded_checkpoint,
    model_config,
    read_checkpoint,
)
from lit_vlm.class_names import known_classes
from lit_vlm.command_words import NO_MODEL, prepare_words
from lit_vlm.config_differences import differences
from lit_vlm.configurable import Configurable
from lit_vlm.csv_logger import AppendingCSVLogger
from lit_vlm.data import ImageDataModule
from lit_vlm.deepspeed_engine import uses_deepspeed, uses_zero_3
from lit_vlm.deepspeed_fits import fit_stages
from lit_vlm.encoders import VisionEncoder
from lit_vlm.errors import ConfigError
from lit_vlm.evaluation import AnsweringModule
from lit_vlm.known_weights import is_pretrained, parts_without_weights
from lit_vlm.model import VisionLanguageModel
from lit_vlm.parser import FriendlyParser
from lit_vlm.pretraining.base import PretrainingModule
from lit_vlm.quiet import quieten
from lit_vlm.run_folder import (
    CHECKPOINTS,
    check_output,
    check_writable,
    is_name,
    make_room,
    put_back,
    resolve_checkpoint,
)
from lit_vlm.sharded_strategy import reads_shards
from lit_vlm.splits import has_split

_WRONG_DATA = {
    True: "--data must be a folder of images or an image for {}, which answers no questions.",
    False: "--data must be a file of questions (.jsonl) for {}, got images alone.",
}

_NO_ANSWERS = (
    "predict is for vision-language models and encoders, got a {}. For the features of its "
    "encoder: lit-vlm predict --model {} --model.pretrained {} --data FOLDER."
)

_OUTPUTS = {"test": "predictions-{}.jsonl", "predict": "answers-{}.jsonl"}
_ENCODER_OUTPUTS = {"test": "evaluation-{}.json", "predict": "features-{}.safetensors"}


class ConfigKeeper(SaveConfigCallback):
    """Write a run's config when training begins: one that is refused changes no file."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it."""
        super().setup(trainer, pl_module, "fit")


class LitVLMCLI(LightningCLI):
    """LightningCLI with run folders, checkpoints that suffice, and readable errors."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Add the two checkpoints, the free variables and what commands take beside a config."""
        parser.add_argument(
            "--vars", type=dict[str, Any], default={}, help="Free variables, used as ${vars.name}."
        )
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(CheckpointSelection, "checkpoint_selection")
        parser.add_lightning_class_args(StagedFreezing, "staged_freezing")
        parser.add_lightning_class_args(PretrainedLR, "pretrained_lr")
        parser.add_lightning_class_args(TrainableReport, "trainable_report")
        parser.add_lightning_class_args(FeatureEvaluation, "feature_evaluation")
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="File for the generated answers (test, predict; JSON Lines), for the features "
            "that an encoder predicts (safetensors), or for what they are worth (test of an "
            "encoder; .json or .csv).",
        )
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=True,
            help="Whether fit ends by testing the selected checkpoint, or the best one without a "
            "selection, if there is test data.",
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> Any:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            # It reads all pictures: while a model trains only if it is asked for.
            parser.set_defaults({"feature_evaluation.every_n_validations": 0})
        return parser

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the words given, which ``run`` has prepared from the command line's."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the config alone: the command line beats the checkpoint."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Choose the run folder, and give the trainer its logger and callbacks."""
        settings = self._get(self.config_init, "trainer")
        self.asked = self._get(self.config_init, "ckpt_path")
        self.moved: Path | None = None
        self.folder = Path(settings["default_root_dir"] or self._default_folder())
        settings["default_root_dir"] = str(self.folder)
        staged = self._get(self.config_init, "staged_freezing")
        if staged is not None and staged.ends_run and self._has_no_end(settings):
            settings["max_epochs"] = -1  # the stages say how long the run is
        if settings["logger"] in (None, True):
            fit = self.subcommand == "fit"
            settings["logger"] = AppendingCSVLogger(self.folder) if fit else False
        if self.subcommand != "fit":
            self.save_config_callback = None
        output = self._output()
        if output is not None:
            check_output(output)
        trainer: Any = super().instantiate_trainer(**kwargs)
        if isinstance(self.model, AnsweringModule):
            trainer.callbacks.insert(0, AnswerReport(output))
        elif self.subcommand == "test" and output is not None:
            evaluations = (c for c in trainer.callbacks if isinstance(c, FeatureEvaluation))
            next(evaluations).write_to(output)
        elif self._looks_only:
            trainer.callbacks.insert(0, FeatureWriter(output))
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        # What the user lists stands for the one that is there anyway.
        listed = config["callbacks"] or []
        kinds = {type(callback) for callback in (listed if isinstance(listed, list) else [listed])}
        for callback in callbacks:
            said = getattr(callback, "stages", None) or getattr(callback, "parts", None)
            if type(callback) in kinds and said:
                raise ConfigError(
                    f"{type(callback).__name__} must be configured once, got it in "
                    f"trainer.callbacks and in a group of its own. Leave one out."
                )
        others = [callback for callback in callbacks if type(callback) not in kinds]
        return super()._instantiate_trainer(config, others)

    def before_fit(self) -> None:
        """Prepare the run folder, or find the checkpoint to resume from."""
        if self.asked is None:
            self._make_room()
            return
        path = resolve_checkpoint(self.asked, self.folder)
        self._set_checkpoint(path)
        if self._is_ours:
            self._report_differences(read_checkpoint(path))
        check_writable(self.folder)

    def after_fit(self) -> None:
        """Select a checkpoint, and test it; the best one, or the last state, if none is."""
        trainer: Any = self.trainer
        if trainer.interrupted or trainer.fast_dev_run:
            return
        if uses_zero_3(trainer):
            rank_zero_info(NOT_TESTED)
            return
        if uses_deepspeed(trainer):
            # Else it takes what is frozen now for frozen in every checkpoint that it loads.
            self.model.requires_grad_(True)
        # The path is taken now: testing a checkpoint restores the callbacks' state, too.
        path = self._callback(BestCheckpoint).best_model_path or None
        asked = (c for c in trainer.callbacks if isinstance(c, CheckpointSelection))
        made = (c.select(trainer, self.model, self.datamodule) for c in asked)
        if record := next(filter(None, made), None):
            path = str(self.folder / record["selected"])
        can_test = has_split(self.datamodule, "test") and is_overridden("test_step", self.model)
        if self._get(self.config_init, "test_after_fit") and can_test:
            rank_zero_info(f"Testing {path or 'the last state'}")
            trainer.test(self.model, self.datamodule, ckpt_path=path, verbose=not self._has_report)

    def before_validate(self) -> None:
        """Find the checkpoint, which a model of pretrained parts may do without."""
        self._find_checkpoint_or_weights()

    def before_test(self) -> None:
        """Find the checkpoint, which an encoder or pretrained parts may do without."""
        self._find_checkpoint_or_weights()

    def before_predict(self) -> None:
        """Find the checkpoint, if one is needed, and check that the data fits."""
        if isinstance(self.model, PretrainingModule):
            path = resolve_checkpoint(self.asked, self.folder) if self.asked else "CHECKPOINT"
            eye = type(self.model.encoder).__name__
            raise ConfigError(_NO_ANSWERS.format(type(self.model).__name__, eye, path))
        if self._looks_only != isinstance(self.datamodule, ImageDataModule):
            raise ConfigError(_WRONG_DATA[self._looks_only].format(type(self.model).__name__))
        self._find_checkpoint_or_weights()

    def fit(self, **kwargs: Any) -> None:
        """Train; a run that fails before it begins leaves the folder as it was."""
        try:
            fit_stages(self.trainer, **kwargs)
        except BaseException as stop:
            self._put_back()
            if isinstance(stop, SIGTERMException):
                stop.code = 128 + signal.SIGTERM  # Lightning's own says that all went well
            raise

    def validate(self, **kwargs: Any) -> None:
        """Validate; say so if that has no figures."""
        self.trainer.validate(**kwargs)
        if not self.trainer.callback_metrics:
            rank_zero_warn(
                f"validate: {type(self.model).__name__} logged no figures. Evaluate its features "
                f"on pictures with classes: --feature_evaluation.every_n_validations 1, and "
                f"--feature_evaluation.data if its own have none."
            )

    def predict(self, **kwargs: Any) -> None:
        """Predict; the answers go to the file, not to memory."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def test(self, **kwargs: Any) -> None:
        """Test; the table is the report's."""
        self.trainer.test(**{**kwargs, "verbose": not self._has_report})

    @staticmethod
    def _has_no_end(settings: Any) -> bool:
        return settings["max_epochs"] is None and settings["max_steps"] == -1

    @property
    def _is_ours(self) -> bool:
        # Another project's module: its checkpoint does not rebuild it, its steps return anything.
        return isinstance(self.model, Configurable)

    @property
    def _has_report(self) -> bool:
        # A callback prints what its test found, better than Lightning does.
        return isinstance(self.model, AnsweringModule | VisionEncoder)

    @property
    def _looks_only(self) -> bool:
        # An encoder alone: it predicts features and answers nothing.
        return isinstance(self.model, VisionEncoder)

    def _find_checkpoint_or_weights(self) -> None:
        if self.asked is not None:
            self._find_checkpoint()
        elif isinstance(self.model, VisionLanguageModel):
            self._check_parts_are_pretrained()
        elif not self._looks_only:
            raise ConfigError(NO_MODEL.format(self.subcommand))
        elif self.model.init_config["init_args"].get("pretrained", ...) is None:
            rank_zero_warn(
                f"{type(self.model).__name__} has random weights. Give --model.pretrained or "
                f"--ckpt_path for features of a trained one."
            )

    def _check_parts_are_pretrained(self) -> None:
        if not is_pretrained(self.model):
            raise ConfigError(NO_MODEL.format(self.subcommand))
        if random := parts_without_weights(self.model):
            rank_zero_warn(
                f"{' and '.join(random)} of the model have random weights. Give them pretrained, "
                f"or give --ckpt_path."
            )

    def _find_checkpoint(self) -> None:
        if self.asked is None:
            raise ConfigError(NO_MODEL.format(self.subcommand))
        path = resolve_checkpoint(self.asked, self.folder)
        held = model_config(read_checkpoint(path))["class_path"] if self._is_ours else ""
        if self._looks_only and held != self.model.init_config["class_path"]:
            raise ConfigError(
                f"--ckpt_path must hold a {type(self.model).__name__}, got {path}, which holds a "
                f"{held.rpartition('.')[2]}."
            )
        self._set_checkpoint(path)

    def _set_checkpoint(self, path: str) -> None:
        if is_sharded_checkpoint(path) and not reads_shards(self.trainer.strategy):
            raise ConfigError(f"--ckpt_path {IN_SHARDS.format(path, path)}")
        fits = self.subcommand == "fit" or not uses_zero_3(self.trainer)
        if is_deepspeed_checkpoint(path) and not (uses_deepspeed(self.trainer) and fits):
            raise ConfigError(f"--ckpt_path {FOR_ENGINE.format(path, path)}")
        self.config_init[str(self.subcommand)]["ckpt_path"] = path

    def _default_folder(self) -> Path:
        if self.asked is None or is_name(self.asked):
            return Path("runs")
        path = Path(self.asked)
        return path.parent.parent if path.parent.name == CHECKPOINTS else path.parent

    def _output(self) -> Path | None:
        given = self._get(self.config_init, "output")
        if given is not None:
            return Path(given)
        outputs = _OUTPUTS if isinstance(self.model, AnsweringModule) else _ENCODER_OUTPUTS
        name = outputs.get(str(self.subcommand))
        if name is None or self.asked is None:
            return None
        return self.folder / name.format(Path(self.asked).stem)

    def _callback(self, kind: type[Any]) -> Any:
        trainer: Any = self.trainer
        return next(callback for callback in trainer.callbacks if isinstance(callback, kind))

    @rank_zero_only
    def _make_room(self) -> None:
        if moved := make_room(self.folder):
            self.moved = moved
            rank_zero_info(f"The earlier run in {self.folder} is now in {moved}.")

    @rank_zero_only
    def _put_back(self) -> None:
        if self.moved is not None and put_back(self.folder, self.moved):
            rank_zero_info(f"The earlier run is in {self.folder} again.")

    @rank_zero_only
    def _report_differences(self, checkpoint: dict[str, Any]) -> None:
        for difference in differences(self.model.rebuild_config(), model_config(checkpoint)):
            rank_zero_info(difference)


def run(command: str, words: list[str], cli: type[LitVLMCLI] = LitVLMCLI) -> LitVLMCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        command: one of them.
        words: what follows it on the command line.
        cli: what runs it.

    Returns:
        What has run it.

    Raises:
        ConfigError: if the command line or a config is wrong.
    """
    quieten(command)
    known_classes()
    # Interpolations in a config are then relative to the file's own keys, not the subcommand's.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    return cli(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=[command, *prepare_words(command, words)],
        parser_class=FriendlyParser,
        parser_kwargs={"parser_mode": "omegaconf+", "prog": "lit-vlm"},
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_callback=ConfigKeeper,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "plugins": [{"class_path": "lit_vlm.checkpoint_io.AtomicCheckpointIO"}],
            "callbacks": [CurvePlot(), RNGState()],
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        },
    )
