"""Low-rank adapters inside a language model, through peft."""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from lit_vlm.errors import nearest
from lit_vlm.language_models.pretrained import untie


def apply_lora(model: Any, config: dict[str, Any]) -> None:
    """Put low-rank adapters beside a model's matrices, freeze the rest, in place.

    The model keeps its class and methods, and computes what it did until the adapters have learnt
    something. With ``r=8`` they have 20 million weights in Llama 7B, 0.3 % of all.

    Args:
        model: a language model of transformers, without adapters.
        config: arguments of ``peft.LoraConfig``: ``r``, ``lora_alpha``, ``lora_dropout``,
            ``target_modules`` (names or ends of names, or one regular expression; all linear
            layers but the head unless given), ``modules_to_save`` (trained whole), ...

    Raises:
        ValueError: if peft has no such argument, the model no such module, or it has adapters.
        ImportError: if peft is not installed.

    Source:
        LoRA (Hu et al., 2021), https://arxiv.org/abs/2106.09685; every linear layer as in QLoRA
        (Dettmers et al., 2023), https://arxiv.org/abs/2305.14314.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2))
        >>> apply_lora(model, {"r": 2, "target_modules": ["c_attn"]})
        >>> [name for name, weight in model.named_parameters() if weight.requires_grad]
        ['transformer.h.0.attn.c_attn.lora_A.default.weight',
         'transformer.h.0.attn.c_attn.lora_B.default.weight']
    """
    peft = _peft()
    if has_lora(model):
        raise ValueError(
            "apply_lora: the model must not have adapters, got one that has. Call merge_lora first."
        )
    _check_keys(config, [field.name for field in fields(peft.LoraConfig)])
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), Iterable) and not isinstance(config[key], str):
            _check_modules(model, key, config[key])
    defaults = {
        "target_modules": "all-linear",
        "fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules()),
    }
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**{**defaults, **config}), model)
    except (ValueError, TypeError, NotImplementedError, re.error) as error:
        raise ValueError(
            f"apply_lora: config must be one that peft can apply to {type(model).__name__}, got "
            f"{config}. peft says: {error}"
        ) from error
    # What unfreezing must not go beyond, of the whole or of any module in it.
    for module in model.modules():
        module.only_trains = frozenset(n for n, p in module.named_parameters() if p.requires_grad)


def has_lora(model: Any) -> bool:
    """Whether ``apply_lora`` was called on a model and not undone."""
    return hasattr(model, "only_trains")


def merge_lora(model: Any) -> None:
    """Fold adapters into the weights that they stand beside, and remove them, in place.

    The model computes what it did, at its former cost, and may be saved as any other. Its weights
    stay frozen until they are unfrozen.

    Raises:
        ValueError: if the model has no adapters.
        ImportError: if peft is not installed.
    """
    _peft()
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if not has_lora(model):
        raise ValueError("merge_lora: the model must have adapters, got none. Merge only once.")
    if isinstance(model.get_output_embeddings(), BaseTunerLayer):
        untie(model)  # what the head has learnt is not for the embeddings
    adapted = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    for name, module in list(model.named_modules()):
        if isinstance(module, adapted):
            model.set_submodule(name, _merged(module))
    del model.peft_config
    for module in model.modules():
        module.__dict__.pop("only_trains", None)


def _merged(module: Any) -> nn.Module:
    if hasattr(module, "unload_and_optionally_merge_module"):
        return module.unload_and_optionally_merge_module(
            merge=True, safe_merge=True, adapter_names=None
        )
    module.merge(safe_merge=True)
    return module.get_base_layer()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            'lora: the package peft must be installed: pip install "lit-vlm[lora]".'
        ) from error
    return peft


def _check_keys(config: dict[str, Any], known: list[str]) -> None:
    for key in config:
        if key not in known:
            raise ValueError(
                f"apply_lora: config must have arguments of peft.LoraConfig, got {key!r}."
                f"{nearest(key, known, list_all=False)}"
            )


def _check_modules(model: nn.Module, key: str, wanted: Iterable[str]) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for word in wanted:
        if not any(name == word or name.endswith(f".{word}") for name in names):
            last = {name.rpartition(".")[2] for name in names} - {str(i) for i in range(1000)}
            raise ValueError(
                f"apply_lora: {key} must name modules of {type(model).__name__}, got {word!r}."
                f"{nearest(word, last)}"
            )
