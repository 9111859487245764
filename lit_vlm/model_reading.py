"""How a model reads its inputs, from its config or checkpoint alone: no weights are loaded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_vlm.asked_checkpoint import locate_checkpoint
from lit_vlm.checkpoints import model_config, read_checkpoint
from lit_vlm.config_reader import read_fit_config
from lit_vlm.errors import ConfigError, nearest
from lit_vlm.language_models.new_tokens import add_special_tokens
from lit_vlm.language_models.pretrained import from_hub
from lit_vlm.meta_model import meta_model
from lit_vlm.model import VisionLanguageModel
from lit_vlm.processing import Processor
from lit_vlm.recipe_config import recipe_source
from lit_vlm.stages import Stage

Texts = Callable[[], Iterator[str]]
"""Gives the texts that a tokenizer is trained on, if the model has none yet."""

_TRAINED_HERE = (
    "The config names no tokenizer: one was trained here on the texts of the data, as fit trains "
    "one on its training data. A trained model has its own: give --ckpt_path."
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads.

    Attributes:
        processor: the model's, or that of a stage of its training.
        note: what the user should know of it, if anything.
    """

    processor: Processor
    note: str = ""


def read_model(
    ckpt_path: str | None, words: list[str], texts: Texts, stage: str | None = None
) -> Reading:
    """Return how a model reads, at the cost of its config and its tokenizer.

    Args:
        ckpt_path: a checkpoint or run folder; None for the model of the config.
        words: configs and options of ``lit-vlm fit``.
        texts: of the data.
        stage: name of a stage of the config, for how its training reads; None for the model's own
            reading.

    Raises:
        ConfigError: if the command line or a config is wrong.
        OSError: if the checkpoint or the tokenizer is missing.
        ValueError: if it is another kind of model.
    """
    config = read_fit_config(words) if words else {}
    note = ""
    if ckpt_path is not None:
        model = _from_checkpoint(ckpt_path, words)
    else:
        model = _built(config["model"])
        note = _give_tokenizer(model, config["model"], texts)
    if stage is None:
        return Reading(model.processor, note)
    return Reading(_staged(model, _stage(config, stage)), note)


def _from_checkpoint(ckpt_path: str, words: list[str]) -> VisionLanguageModel:
    content = read_checkpoint(locate_checkpoint(ckpt_path, words))
    model = _built(model_config(content))
    state = content.get("part_states", {}).get("language_model", {})
    if "tokenizer" in state:
        model.language_model.load_checkpoint_state(state)
    return model


def _built(config: dict[str, Any]) -> VisionLanguageModel:
    model = meta_model(config)
    if not isinstance(model, VisionLanguageModel):
        raise ValueError(
            f"the model must be a VisionLanguageModel, got {type(model).__name__}, which reads no "
            f"dialogues."
        )
    return model


def _give_tokenizer(model: VisionLanguageModel, config: dict[str, Any], texts: Texts) -> str:
    options = config["init_args"]["language_model"].get("init_args", {})
    name = options.get("tokenizer") or options.get("pretrained")
    if name is None:
        model.language_model.train_tokenizer(texts())
        return _TRAINED_HERE
    who = type(model.language_model).__name__
    tokenizer: PreTrainedTokenizerBase = from_hub(who, name, AutoTokenizer.from_pretrained)
    known = tokenizer.get_vocab()
    new = options.get("new_tokens")
    words = model.prompt.new_tokens if new is None else new
    add_special_tokens(tokenizer, (word for word in words if word not in known))
    model.language_model.tokenizer = tokenizer
    return ""


def _stage(config: dict[str, Any], name: str) -> Stage:
    stages = recipe_source(config).stages
    if name not in stages:
        raise ConfigError(
            f"--stage must be a stage of the config, got {name!r}.{nearest(name, stages)}"
        )
    return stages[name]


def _staged(model: VisionLanguageModel, stage: Stage) -> Processor:
    if stage.image_size is not None:
        model.set_image_size(stage.image_size)
    return model.processor.changed(**stage.reading)
