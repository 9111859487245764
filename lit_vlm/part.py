"""The base of everything that is built, trained, saved and subclassed on its own."""

from typing import Any

from lightning import LightningDataModule, LightningModule

from lit_vlm.configurable import Configurable
from lit_vlm.freezing import freeze, is_frozen, unfreeze


class Part(Configurable, LightningModule):
    """A LightningModule whose checkpoint suffices to rebuild it, and that freezes properly.

    A checkpoint holds the constructor record of the part that was trained (``hyper_parameters``)
    and whatever its sub-parts add in ``checkpoint_state``; both are primitives and tensors, so
    ``load_from_checkpoint`` works with ``weights_only=True`` and without a network.
    """

    def freeze(self) -> "Part":
        """Stop training this part: no gradient, and evaluation mode that survives ``train()``."""
        freeze(self)
        return self

    def unfreeze(self) -> "Part":
        """Undo ``freeze``: gradients again, and training mode."""
        unfreeze(self)
        return self

    @property
    def frozen(self) -> bool:
        """Whether ``freeze`` holds."""
        return is_frozen(self)

    def checkpoint_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs of this part beside weights: primitives and tensors."""
        return {}

    def load_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Take back what ``checkpoint_state`` returned."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the constructor records of model and data, and the parts' own state."""
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = _as_hyper_parameters(self)
        datamodule = getattr(self._trainer, "datamodule", None)
        if isinstance(datamodule, Configurable):
            key = LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY
            checkpoint[key] = _as_hyper_parameters(datamodule)
        states = {name: part.checkpoint_state() for name, part in self._parts()}
        checkpoint["part_states"] = {name: state for name, state in states.items() if state}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the parts their own state."""
        parts = dict(self._parts())
        for name, state in checkpoint.get("part_states", {}).items():
            parts[name].load_checkpoint_state(state)

    def _parts(self) -> "list[tuple[str, Part]]":
        return [(name, part) for name, part in self.named_modules() if isinstance(part, Part)]


def _as_hyper_parameters(made: Configurable) -> dict[str, Any]:
    # The form in which Lightning's load_from_checkpoint finds a class and its arguments.
    record = made.rebuild_config()
    return {
        "_class_path": record["class_path"],
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        **record["init_args"],
    }
