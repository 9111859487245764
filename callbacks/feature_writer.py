"""What an encoder saw, as a file."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_vlm.encoders.base import VisionEncoder, VisualFeatures
from lit_vlm.feature_file import FeatureFile, Layout


class FeatureWriter(Callback):
    """Write the features of pictures to a safetensors file while they are computed.

    The file has one tensor (pictures, N, D) for each level, named for its layer, and ``pooled``
    (pictures, D) where the encoder pools. Its metadata holds the ``images``' paths, row by row, the
    ``grid`` and the ``encoder``'s configuration, as JSON. Rows of pictures that could not be read
    are NaN; ``FILE.skipped.jsonl`` names them.

    Args:
        output: the file; None for ``features.safetensors`` under the trainer's
            ``default_root_dir``.

    Raises:
        ValueError: if the file's name does not end in ``.safetensors``.
    """

    def __init__(self, output: str | Path | None = None) -> None:
        self.output = Path(output) if output is not None else None
        if self.output is not None and self.output.suffix != ".safetensors":
            raise ValueError(
                f"FeatureWriter: output must be a .safetensors file, got {self.output}."
            )
        self._file: FeatureFile | None = None
        self._skipped: dict[int, str] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the file, of the size that all pictures will need."""
        assert isinstance(pl_module, VisionEncoder)
        path = self.output or Path(trainer.default_root_dir) / "features.safetensors"
        self._file = FeatureFile(path, _layout(trainer, pl_module))
        if trainer.is_global_zero:
            self._file.create()
        trainer.strategy.barrier()
        self._file.open()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows of a batch."""
        assert self._file is not None
        index = batch.index.cpu()
        for name, value in _named(pl_module, outputs).items():
            self._file.write(name, index, value.cpu())
            for row, _ in batch.skipped:
                self._file.write(name, torch.tensor([row]), torch.tensor(torch.nan))
        self._skipped.update(batch.skipped)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the file and say what is in it."""
        assert self._file is not None
        skipped = _gathered(self._skipped, trainer.world_size)  # when all ranks have written
        if trainer.is_global_zero:
            self._file.finish()
            shapes = self._file.layout.shapes
            rows = self._file.layout.num_rows
            self._report_skipped(skipped)
            listed = ", ".join(f"{name} {(rows, *shape)}" for name, shape in shapes.items())
            print(f"features of {rows:,} images are in {self._file.path}: {listed}")
        self._file, self._skipped = None, {}

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave no half-written file."""
        if self._file is not None and trainer.is_global_zero:
            self._file.discard()
        self._file = None

    def _report_skipped(self, skipped: dict[int, str]) -> None:
        assert self._file is not None
        if not skipped:
            return
        path = self._file.path.with_name(self._file.path.name + ".skipped.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for row in sorted(skipped):
                line = {"row": row, "reason": skipped[row]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        rank_zero_warn(
            f"{len(skipped)} images could not be read: their rows are NaN; {path} names them."
        )


def _gathered(skipped: dict[int, str], world_size: int) -> dict[int, str]:
    if world_size == 1:
        return skipped
    by_rank: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(by_rank, skipped)
    return {row: reason for one in by_rank for row, reason in one.items()}


def _named(encoder: Any, features: VisualFeatures) -> dict[str, torch.Tensor]:
    names = encoder.level_names
    if len(set(names)) < len(names):  # a layer that is read twice
        names = [f"level_{place}" for place in range(len(names))]
    named = dict(zip(names, features.levels, strict=True))
    return named if features.pooled is None else {**named, "pooled": features.pooled}


def _layout(trainer: Trainer, encoder: VisionEncoder) -> Layout:
    loader: Any = trainer.predict_dataloaders
    blank = torch.zeros(1, 3, *encoder.image_size, dtype=torch.uint8, device=encoder.device)
    # A try tells what only the network knows: the pooled width, and the type at this precision.
    with torch.no_grad(), trainer.precision_plugin.predict_step_context():
        tried = _named(encoder, encoder(blank))
    paths = [str(path) for path in loader.dataset.paths]
    metadata = {
        "images": json.dumps(paths, ensure_ascii=False),
        "grid": json.dumps(encoder.grid),
        "encoder": json.dumps(encoder.init_config),
    }
    dtype = next(iter(tried.values())).dtype
    shapes = {name: tuple(value.shape[1:]) for name, value in tried.items()}
    return Layout(len(paths), shapes, dtype, metadata)
