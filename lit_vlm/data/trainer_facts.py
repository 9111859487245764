"""What a data module of pictures learns from its trainer."""

from typing import Any

from lightning import LightningDataModule

from lit_vlm.data.augmentation import Augmentation
from lit_vlm.data.picture_reading import PictureFormat
from lit_vlm.images import Resize

_GREY = (127, 127, 127)


class TrainerFacts(LightningDataModule):
    """Ask the trainer for the model, the ranks, and the batches that are done.

    Attributes:
        image_size: height and width of pictures, in pixels; None to ask the model.
        resize: how others are brought there; None to ask the model.
        fill: colour of padding; None to ask the model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_size: tuple[int, int] | None = None
        self.resize: Resize | None = None
        self.fill: tuple[int, int, int] | None = None
        self.position: dict[str, Any] = {}

    @property
    def model(self) -> Any:
        """The trainer's model; None without a trainer."""
        return self.trainer.lightning_module if self.trainer is not None else None

    @property
    def model_name(self) -> str:
        """What a message calls the model."""
        return "no trainer" if self.model is None else type(self.model).__name__

    @property
    def ranks(self) -> tuple[int, int]:
        """The number of ranks, and this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    @property
    def pins_memory(self) -> bool:
        """Whether batches go to a GPU."""
        trainer = self.trainer
        return trainer is not None and trainer.strategy.root_device.type == "cuda"

    def picture_format(self, augment: Augmentation | None, seed: int) -> PictureFormat:
        """Return how pictures come to the model.

        Args:
            augment: makes views of them; None to resize them.
            seed: chooses the views.

        Raises:
            ValueError: if neither the trainer's model nor an attribute says how large they are.
        """
        size = self.image_size or getattr(self.model, "image_size", None)
        if size is None:
            raise ValueError(
                f"{type(self).__name__}: must have a trainer, whose model says how large pictures "
                f"must be (image_size), got {self.model_name}. Set datamodule.image_size."
            )
        resize: Any = self.resize or getattr(self.model, "resize", "pad")
        fill: Any = self.fill or getattr(self.model, "fill", _GREY)
        return PictureFormat(tuple(size), resize, fill, augment, seed)

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches the run has consumed over all epochs, and how many one has."""
        if self.trainer is None:
            return self.position
        loop: Any = self.trainer.fit_loop
        return {
            "position": loop.epoch_loop.batch_progress.total.processed,
            "epoch_length": loop.max_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that were consumed."""
        self.position = state_dict
