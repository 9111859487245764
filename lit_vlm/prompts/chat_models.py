"""The warning that a chat model is asked in another format than its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WARNED: set[tuple[str, str]] = set()


def warn_of_chat_model(who: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Warn once for each format and model, by name, if the tokenizer has a chat template.

    Formats call it in ``stop_ids``, which every processor asks for once, in the main process;
    ``segments`` runs in worker processes, each of which would warn again. A tokenizer without a
    name was made here and is no published chat model's; one of a checkpoint bears the name of a
    folder that is gone, and the run that wrote the checkpoint has warned.
    """
    name = tokenizer.name_or_path
    if not name or not tokenizer.chat_template or (who, name) in _WARNED:
        return
    if Path(name).is_absolute() and not Path(name).exists():
        return
    _WARNED.add((who, name))
    rank_zero_warn(
        f"{who}: a chat model should be asked in its own chat template, got the tokenizer "
        f"{name!r}, which has one. A chat model asked in another format does worse than a base "
        f"model (DeepSpeed-VisualChat): use the prompt ChatTemplate. If {name!r} is a base model "
        f"that only carries a template, all is well."
    )
