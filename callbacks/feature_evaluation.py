"""What an encoder's features are worth without fine-tuning: k-NN, linear probes, zero-shot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from rich.console import Console
from torch import Tensor

from lit_vlm.deepspeed_engine import uses_zero_3
from lit_vlm.encoder_report import EncoderReport, Score
from lit_vlm.encoder_sight import (
    EMBEDDING,
    collect,
    embeds_texts,
    encoder_of,
    has_encoder,
    name_classes,
)
from lit_vlm.encoder_vectors import LabelledRows, LabelledVectors, gather_lists, rank_and_world
from lit_vlm.encoders import VisionEncoder
from lit_vlm.freezing import evaluating
from lit_vlm.labelled_pictures import LabelledPictures, Split
from lit_vlm.level_scores import neighbour_scores, probe_scores, zero_shot_scores
from lit_vlm.sharding import is_sharded
from lit_vlm.zero_shot import check_templates
from lit_vlm.zero_shot_templates import NAMED


class FeatureEvaluation(Callback):
    """Classify pictures by the features of every level of a module's encoder, untouched.

    In validation and test, the pictures of that split are classified by their nearest neighbours
    among the training pictures and by linear probes trained on these, and, where the module embeds
    texts, by the names of the classes. ``val/knn`` and ``val/probe`` are of what the encoder pools,
    or else of its last level; ``val/knn_20_layer_3`` and the like of each level, the mean of its
    patches; ``val/zero_shot_top1`` of the module's own embeddings. They can be monitored. Test
    prints a table with intervals and writes it to a file. Training takes the same course with it
    as without.

    The module is a ``VisionEncoder`` or has one as ``encoder``. The data module has
    ``labelled_loader(split)``, as ``ImageClassificationDataModule`` has.

    Args:
        data: pictures with classes; None for the trainer's data module. It is prepared and set up
            for each split, and gives pictures of the encoder's size.
        knn: numbers of nearest neighbours that vote; empty for no k-NN.
        temperature: a neighbour's vote counts exp(cosine / temperature); None for one each.
        probe_learning_rates: learning rates of the linear probes, which are trained at once; the
            best one on a held-out part of the training pictures counts. Empty for no probe.
        probe_weight_decays: the same for weight decays.
        probe_steps: batches of 256 pictures that the probes are trained for.
        templates: texts with ``{}`` for a class's name, or ``photo`` (one), ``simple`` (seven) or
            ``openai`` (CLIP's eighty for ImageNet).
        every_n_validations: evaluate in each n-th validation; 0 for test only.
        output: file for the scores, ``.json`` or ``.csv``; None for ``evaluation.json`` under the
            trainer's ``default_root_dir``.

    Raises:
        ValueError: if an argument is out of range; when it evaluates, if there are no labelled
            pictures, or a strategy splits the encoder's weights.
        TypeError: when it evaluates, if there is no encoder, or no such data.
    """

    def __init__(
        self,
        data: LightningDataModule | None = None,
        knn: Sequence[int] = (10, 20),
        temperature: int | float | None = 0.07,
        probe_learning_rates: Sequence[int | float] = (0.001, 0.01, 0.1, 1.0),
        probe_weight_decays: Sequence[int | float] = (0.0, 1e-4, 1e-2),
        probe_steps: int = 1000,
        templates: Literal["photo", "simple", "openai"] | list[str] = "photo",
        every_n_validations: int = 1,
        output: str | Path | None = None,
    ) -> None:
        texts = NAMED[templates] if isinstance(templates, str) else templates
        check_templates(texts, "FeatureEvaluation")
        _check(knn, probe_steps, every_n_validations)
        self.data = data
        self.knn = tuple(knn)
        self.temperature = temperature
        self.probe_learning_rates = tuple(probe_learning_rates)
        self.probe_weight_decays = tuple(probe_weight_decays)
        self.probe_steps = probe_steps
        self.templates = tuple(texts)
        self.every_n_validations = every_n_validations
        self.output: Path | None = None
        self.report: EncoderReport | None = None
        self._validations = 0
        self._pictures = LabelledPictures(data)
        if output is not None:
            self.write_to(Path(output))

    def write_to(self, output: Path) -> None:
        """Write the scores of a test to a file.

        Args:
            output: its path.

        Raises:
            ValueError: if its name does not end in ``.json`` or ``.csv``.
        """
        if output.suffix not in (".json", ".csv"):
            raise ValueError(
                f"FeatureEvaluation: output must be a .json or .csv file, got {output}."
            )
        self.output = output

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there were."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._validations = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log, before checkpoints ask for what they monitor."""
        if trainer.sanity_checking or not self.every_n_validations:
            return
        if trainer.state.fn == "fit":
            self._validations += 1
            if self._validations % self.every_n_validations:
                return
        self._evaluate(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log, if there is data for it."""
        own = isinstance(pl_module, VisionEncoder) or self.data is not None
        if own or (has_encoder(pl_module) and self._pictures.given(trainer)):
            self._evaluate(trainer, pl_module, "test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table and write the file."""
        if self.report is None or self.report.split != "test" or not trainer.is_global_zero:
            return
        Console().print(self.report.table())
        path = self.output or Path(trainer.default_root_dir) / "evaluation.json"
        self.report.write(path)
        print(f"the scores are in {path}")

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule, split: Split) -> None:
        encoder = encoder_of(pl_module)
        _check_strategy(trainer, pl_module)
        with isolate_rng(), torch.no_grad(), evaluating(pl_module):
            data = self._pictures.of(trainer, encoder, split)
            self.report = self._scored(trainer, pl_module, data, split)
        figures = {f"{split}/{name}": value for name, value in self.report.figures().items()}
        # They are the same on all ranks already; Lightning wants to be told to reduce them.
        pl_module.log_dict(figures, sync_dist=True, batch_size=1)

    def _scored(self, trainer: Trainer, module: Any, data: Any, split: Split) -> EncoderReport:
        device, names = module.device, tuple(getattr(data, "classes", ()))
        texts = embeds_texts(module) and bool(names)
        learns = bool(self.knn or self.probe_learning_rates)
        with trainer.precision_plugin.forward_context():
            train = collect(module, data.labelled_loader("train") if learns else (), False)
            test = collect(module, data.labelled_loader(split), texts)
            classes = name_classes(module, names, self.templates) if texts else None
        known, wanted = train.rows(device), test.rows(device)
        _check_pictures(len(known) if learns else None, len(wanted))
        scores = self._score_levels(train, known, test, wanted, device) if learns else []
        if classes is not None:
            images = wanted.take(test.vectors[EMBEDDING], device)
            scores += zero_shot_scores(images, wanted.labels, classes.float().cpu())
        return EncoderReport(split, len(known), list(train.vectors)[-1], scores)

    def _score_levels(
        self,
        train: LabelledVectors,
        known: LabelledRows,
        test: LabelledVectors,
        wanted: LabelledRows,
        device: torch.device,
    ) -> list[Score]:
        ks = _possible(self.knn, len(known))

        def score(level: str, bank: Tensor, queries: Tensor) -> list[Score]:
            learnt = bank.to(device), known.labels.to(device)
            asked = queries.to(device), wanted.labels.to(device)
            rates, decays = self.probe_learning_rates, self.probe_weight_decays
            return [
                *neighbour_scores(level, learnt, asked, ks, self.temperature),
                *probe_scores(level, learnt, asked, rates, decays, self.probe_steps),
            ]

        found: list[list[Score]] = []
        rank, ranks = rank_and_world()
        for place, level in enumerate(train.vectors):
            bank = known.take(train.vectors[level], device)
            queries = wanted.take(test.vectors[level], device)
            found.append(score(level, bank, queries) if place % ranks == rank else [])
        return [score for level in gather_lists(found) for score in level]


def _check(knn: Sequence[int], probe_steps: int, every_n_validations: int) -> None:
    if knn and min(knn) < 1:
        raise ValueError(
            f"FeatureEvaluation: knn must be numbers of neighbours, from 1 on, got {list(knn)}."
        )
    if probe_steps < 1 or every_n_validations < 0:
        raise ValueError(
            f"FeatureEvaluation: probe_steps must be at least 1 and every_n_validations at least "
            f"0, got {probe_steps} and {every_n_validations}."
        )


def _check_strategy(trainer: Trainer, module: LightningModule) -> None:
    if is_sharded(module) or uses_zero_3(trainer):
        raise ValueError(
            "FeatureEvaluation: the strategy must leave the encoder whole, got one that splits it "
            "between processes. Use --trainer.strategy ddp, or test a checkpoint of the run."
        )


def _check_pictures(known: int | None, wanted: int) -> None:
    if known is not None and known < 2:
        raise ValueError(
            f"FeatureEvaluation: there must be at least two training pictures with a class, got "
            f"{known}."
        )
    if not wanted:
        raise ValueError(
            "FeatureEvaluation: there must be a picture with a class to evaluate on, got none."
        )


def _possible(ks: Sequence[int], known: int) -> list[int]:
    left_out = [k for k in ks if k > known]
    if left_out:
        rank_zero_warn(
            f"FeatureEvaluation: knn {left_out} are left out: there are only {known} training "
            f"pictures with a class."
        )
    return [k for k in ks if k <= known]
