"""A tokenizer for a text encoder that comes without one."""

from itertools import islice
from typing import Any

from lightning import Trainer

from lit_vlm.language_models.text_encoder import TextEncoder

_LOOKED_AT = 1000  # captions, for those that are too long


def prepare_tokenizer(encoder: TextEncoder, trainer: Trainer) -> None:
    """Make a tokenizer from the training captions if there is none; the same on all ranks.

    Args:
        encoder: gets it.
        trainer: its data module has ``training_texts()``.

    Raises:
        ValueError: if there are neither a tokenizer nor captions to train one on.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    texts = getattr(datamodule, "training_texts", None)
    if encoder.tokenizer is None:
        if texts is None:
            raise ValueError(
                "ContrastivePretraining: a tokenizer must be named (text_encoder.tokenizer), or "
                "the data module must have training_texts() to train one on; got neither."
            )
        if trainer.is_global_zero:
            encoder.train_tokenizer(texts())
        encoder.load_checkpoint_state(trainer.strategy.broadcast(encoder.checkpoint_state()))
    if texts is not None and trainer.is_global_zero:
        # Now, since what warns in a data loader's worker processes warns in each of them.
        encoder.tokenize(list(islice(texts(), _LOOKED_AT)))
