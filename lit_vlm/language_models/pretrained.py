"""What all language models of transformers share: loading, sizes, tied tables, generation."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from lit_vlm.expected_sizes import NO_SIZES, check_expected
from lit_vlm.freezing import evaluating
from lit_vlm.llava_checkpoint import language_config, load_language_model, read_llava
from lit_vlm.sharding import is_sharded

Quantization = Literal["4bit", "8bit"]
"""Bits of the weights that bitsandbytes quantises while it loads them."""

Loaded = TypeVar("Loaded")


def check_source(who: str, pretrained: object, config: object) -> None:
    """Refuse neither of a pretrained model and sizes."""
    if pretrained is None and config is None:
        raise ValueError(
            f"{who}: must have pretrained (a hub name or a folder), or config (model_type and "
            f"sizes), or both, got neither. Give config for random weights."
        )


def from_hub(who: str, name: str | Path, load: Callable[[str], Loaded]) -> Loaded:
    """Load by a hub name or from a folder, or say what to do where there is neither."""
    try:
        return load(str(name))
    except OSError as error:
        raise OSError(
            f"{who}: must find {str(name)!r} as a folder or on the hub, got "
            f"{type(error).__name__}. Give a local folder, or run once with a network."
        ) from error


def load_pretrained(
    who: str, auto_class: Any, name: str, quantization: Quantization | None, **others: Any
) -> Any:
    """Load a model by a hub name or from a folder, in float32 and in training mode.

    transformers 5 keeps the half precision that weights were published in, in which small updates
    vanish; the trainer's precision is to decide instead.

    Args:
        who: class that the messages name.
        auto_class: one of transformers' ``AutoModelFor...``.
        name: hub name or folder.
        quantization: bits to quantise the weights to.
        others: further arguments of ``from_pretrained``.

    Raises:
        OSError: if it is not on this machine and cannot be downloaded.
        ImportError: if bitsandbytes is needed and not installed.
    """
    if quantization is not None:
        others["quantization_config"] = quantization_config(quantization)
    if from_hub(who, name, read_llava) is not None:
        return load_language_model(who, auto_class, name, dtype=torch.float32, **others).train()
    model = from_hub(
        who, name, lambda name: auto_class.from_pretrained(name, dtype=torch.float32, **others)
    )
    return model.train()


def check_published(
    who: str, auto_class: Any, expected: Any, config: dict[str, Any], name: str
) -> None:
    """Refuse pretrained weights that are not of the sizes that were given beside them.

    Args:
        who: class that the messages name.
        auto_class: one of transformers' ``AutoModelFor...``.
        expected: transformers' configuration, made of ``config``.
        config: what was given.
        name: hub name or folder.

    Raises:
        OSError: if it is not on this machine and cannot be downloaded.
        ValueError: if a field or a shape differs.
    """
    found = from_hub(who, name, language_config)
    check_expected(who, config, expected, found, name, auto_class.from_config)


def sizes_of_folder(who: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return ``config`` for a part whose ``pretrained`` is a local folder, from its config.json.

    What the part is given as ``config`` comes first; without either there is None.

    Args:
        who: class that the messages name.
        arguments: of the part.

    Raises:
        ValueError: if ``config`` contradicts the folder's.
    """
    folder, config = Path(arguments["pretrained"]), arguments.get("config")
    is_folder = (folder / "config.json").is_file()
    found = language_config(folder) if is_folder else None
    if config:
        if found is not None:
            kind = f"the weights {str(folder)!r}"
            expected = build_config(who, config, [type(found)], kind, found.model_type)
            auto = AutoModelForSeq2SeqLM if found.is_encoder_decoder else AutoModelForCausalLM
            check_expected(who, config, expected, found, str(folder), auto.from_config)
        return {"config": config}
    if found is None:
        return None
    sizes = found.to_diff_dict()
    return {"config": {key: value for key, value in sizes.items() if key not in NO_SIZES}}


def check_is_text_model(who: str, model: Any) -> None:
    """Refuse a model that has towers of its own beside the language model."""
    if model.config.get_text_config() is not model.config:
        raise ValueError(
            f"{who}: the model must be a language model alone, got {type(model).__name__}, which "
            f"has other towers. Take the text model of its family ({model.config.model_type}_text)."
        )


def check_quantization(who: str, quantization: Quantization | None) -> None:
    """Refuse to quantise random weights."""
    if quantization is not None:
        raise ValueError(
            f"{who}: quantization must come with pretrained weights, got {quantization!r} with "
            f"random ones. Leave it out."
        )


def build_config(
    who: str, config: dict[str, Any], known: Container[type], kind: str, examples: str
) -> Any:
    """Turn plain sizes into transformers' configuration.

    Args:
        who: class that the messages name.
        config: ``model_type``, ``vocab_size`` and the type's other fields.
        known: classes of configuration that there is a model for.
        kind: what such a model is called.
        examples: a few model types.

    Raises:
        ValueError: if ``vocab_size`` is missing or ``model_type`` is of another kind.
    """
    sizes = dict(config)
    model_type = sizes.pop("model_type", None)
    if "vocab_size" not in sizes:
        raise ValueError(
            f"{who}: config must have vocab_size, got {sorted(sizes)}. It is the most tokens that "
            f"a tokenizer may have."
        )
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{who}: config must have a model_type that transformers knows ({examples}, ...), got "
            f"{model_type!r}."
        )
    _check_fields(who, sizes, CONFIG_MAPPING[model_type])
    try:
        built = AutoConfig.for_model(model_type, **sizes)
    except Exception as error:  # transformers checks its configurations with errors of its own
        raise ValueError(f"{who}: config={config} must be a network, but: {error}") from error
    if type(built) not in known:
        raise ValueError(
            f"{who}: config must have the model_type of {kind} ({examples}, ...), got "
            f"{model_type!r}."
        )
    return built


def plain_config(model: Any) -> dict[str, Any]:
    """Return the sizes of a model as ``build_config`` and ``untie`` take them."""
    # Token ids, lengths and the like are kept; what only describes a file or a run is not.
    dropped = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype"}
    full = model.config.to_diff_dict()
    full["model_type"] = model.config.model_type
    full["vocab_size"] = model.config.vocab_size
    full["tie_word_embeddings"] = _tied(model)
    return {k: v for k, v in full.items() if k not in dropped}


def input_table(model: Any) -> Any:
    """Return the module that holds a model's embeddings, without what peft put around it."""
    return _bare(model.get_input_embeddings())


def output_table(model: Any) -> Any:
    """Return the module that holds a model's head, without what peft put around it."""
    return _bare(model.get_output_embeddings())


def untie(model: Any) -> None:
    """Give a model whose head and embeddings share a matrix one each.

    transformers ties every T5 as it is built, while T5 1.1, UL2 and mT5 are published, and load,
    with two matrices.
    """
    if not _tied(model):
        return
    head = output_table(model)
    head.weight = nn.Parameter(head.weight.detach().clone())


def fitting(who: str, tokenizer: PreTrainedTokenizerBase, model: Any) -> PreTrainedTokenizerBase:
    """Return a tokenizer, or refuse one with more tokens than the model has embeddings."""
    rows = input_table(model).num_embeddings  # ZeRO 3 leaves no rows here
    if len(tokenizer) > rows:
        raise ValueError(
            f"{who}: the tokenizer must not have more tokens than the model has embeddings "
            f"({rows}), got {len(tokenizer)}. Use the model's own tokenizer or a larger "
            f"vocab_size."
        )
    return tokenizer


def quantization_config(kind: Quantization) -> BitsAndBytesConfig:
    """Return how bitsandbytes is to quantise weights: QLoRA's NF4, or 8-bit integers.

    No test runs what it returns, since bitsandbytes needs a GPU.

    Raises:
        ImportError: if bitsandbytes is not installed.
        ValueError: if ``kind`` is another one.

    Source:
        QLoRA (Dettmers et al., 2023), https://arxiv.org/abs/2305.14314.
    """
    if kind not in ("4bit", "8bit"):
        raise ValueError(f"quantization_config: kind must be 4bit or 8bit, got {kind!r}.")
    if find_spec("bitsandbytes") is None:
        raise ImportError(
            "quantization_config: the package bitsandbytes must be installed: "
            'pip install "lit-vlm[quantized]".'
        )
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


@torch.no_grad()
def generate_tokens(
    model: Any,
    embeddings: Float[Tensor, "B T D"],
    attention_mask: Bool[Tensor, "B T"],
    stop_ids: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    **others: Any,
) -> Int[Tensor, "B T_new"]:
    """Run a model's ``generate`` on embeddings, greedily or by nucleus sampling, and so only.

    ``others`` are further arguments of ``generate``.
    """
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    with evaluating(model), _no_habits_of_generation(model):
        return model.generate(
            inputs_embeds=embeddings,
            attention_mask=attention_mask.long(),
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0],
            synced_gpus=is_sharded(model),  # all processes must do as many steps
            **sampling,
            **others,
        )


@contextmanager
def _no_habits_of_generation(model: Any) -> Iterator[None]:
    # Published models come with penalties and sampling of their own, which would join ours.
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _check_fields(who: str, sizes: dict[str, Any], config_class: Any) -> None:
    # transformers keeps whatever it is given, so only what looks like a slip can be refused.
    known = config_class()
    for key in sizes:
        near = get_close_matches(key, known.to_dict(), n=1, cutoff=0.85)
        if near and not hasattr(known, key):
            raise ValueError(
                f"{who}: config must have fields of {config_class.__name__}, got {key!r}. Did you "
                f"mean: {near[0]}?"
            )


def _tied(model: Any) -> bool:
    return input_table(model).weight is output_table(model).weight


def _bare(table: Any) -> Any:
    # peft puts adapters around a layer, or keeps it beside a copy that trains.
    for name in ("base_layer", "original_module"):
        table = getattr(table, name, table)
    return table
