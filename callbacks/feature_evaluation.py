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

from lit_vlm.encoder_checks import (
    check_numbers,
    check_pictures,
    check_strategy,
    possible_neighbours,
)
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
from lit_vlm.figure_file import write_figures
from lit_vlm.freezing import evaluating
from lit_vlm.labelled_pictures import LabelledPictures, Split
from lit_vlm.level_scores import neighbour_scores, probe_scores, zero_shot_scores
from lit_vlm.metrics.finite import check_finite
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
    as without. Without training pictures, neighbours and probes are left out; pictures whose
    vectors are not finite count as wrong.

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
            trainer's ``default_root_dir``. If given, a test without pictures with classes writes
            the figures that it logs there.

    Raises:
        ValueError: if an argument is out of range; when ``fit`` starts, if the data lacks a split;
            when it evaluates, if there are no labelled pictures, vectors to learn from are not
            finite, or a strategy splits the encoder's weights.
        TypeError: when ``fit`` starts or it evaluates, if there is no encoder, or no such data.
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
        check_numbers(knn, probe_steps, every_n_validations)
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

    @property
    def evaluates_later(self) -> bool:
        """Whether a later validation of this run is the first one that it evaluates in."""
        return self._validations < self.every_n_validations

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse, before anything is trained, what its validations could not evaluate."""
        if self.every_n_validations and trainer.enable_validation:
            encoder_of(pl_module)
            check_strategy(trainer, pl_module)
            self._pictures.check(trainer, self._needed(pl_module, "val"))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log, before checkpoints ask for what they monitor."""
        if trainer.sanity_checking or not self.every_n_validations:
            return
        if trainer.state.fn == "fit":
            self._validations += 1
            if self._validations % self.every_n_validations:
                return
        elif not self._is_meant(trainer, pl_module):
            return
        self._evaluate(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier evaluation; refuse an encoder alone without data for one."""
        self.report = None
        if isinstance(pl_module, VisionEncoder):
            self._pictures.check(trainer, self._needed(pl_module, "test"))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log, if there is data for it."""
        if not self._is_meant(trainer, pl_module):
            return
        if self._pictures.given(trainer) and not self._pictures.has(trainer, "test"):
            # A run that ends with a test has trained by now.
            rank_zero_warn("FeatureEvaluation: nothing is evaluated: its data has no test.")
        else:
            self._evaluate(trainer, pl_module, "test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table and write the file."""
        if not trainer.is_global_zero:
            return
        if self.report is not None:
            Console().print(self.report.table())
            path = self.output or Path(trainer.default_root_dir) / "evaluation.json"
            self.report.write(path)
            print(f"the scores are in {path}")
        elif self.output is not None:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            write_figures(self.output, figures)
            print(f"no picture has a class to evaluate on; the test's figures are in {self.output}")

    def _is_meant(self, trainer: Trainer, module: LightningModule) -> bool:
        own = isinstance(module, VisionEncoder) or self.data is not None
        return own or (has_encoder(module) and self._pictures.given(trainer))

    @property
    def _asks_to_learn(self) -> bool:
        return bool(self.knn or self.probe_learning_rates)

    def _needed(self, module: LightningModule, split: Split) -> list[str]:
        # What embeds texts can be evaluated without anything that learns.
        return ["train", split] if self._asks_to_learn and not embeds_texts(module) else [split]

    def _learns(self, trainer: Trainer) -> bool:
        if self._asks_to_learn and not self._pictures.has(trainer, "train"):
            rank_zero_warn(
                "FeatureEvaluation: neighbours and probes are left out: the data has no training "
                "pictures to learn from."
            )
            return False
        return self._asks_to_learn

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule, split: Split) -> None:
        encoder = encoder_of(pl_module)
        check_strategy(trainer, pl_module)
        self._pictures.check(trainer, [split])
        learns = self._learns(trainer)
        with isolate_rng(), torch.no_grad(), evaluating(pl_module):
            data = self._pictures.of(trainer, encoder, split)
            texts = embeds_texts(pl_module) and bool(getattr(data, "classes", ()))
            if not learns and not texts:
                return
            self.report = self._scored(trainer, pl_module, data, split, learns, texts)
        figures = {f"{split}/{name}": value for name, value in self.report.figures().items()}
        # They are the same on all ranks already; Lightning wants to be told to reduce them.
        pl_module.log_dict(figures, sync_dist=True, batch_size=1)

    def _scored(
        self, trainer: Trainer, module: Any, data: Any, split: Split, learns: bool, texts: bool
    ) -> EncoderReport:
        device = module.device
        with trainer.precision_plugin.forward_context():
            train = collect(module, data.labelled_loader("train") if learns else (), False)
            test = collect(module, data.labelled_loader(split), texts)
            classes = name_classes(module, tuple(data.classes), self.templates) if texts else None
        known, wanted = train.rows(device), test.rows(device)
        check_pictures(len(known) if learns else None, len(wanted))
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
        ks = possible_neighbours(self.knn, len(known))

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
            # All ranks have them: one that stopped alone would leave the others waiting.
            check_finite(bank, f"FeatureEvaluation: {level}")
            found.append(score(level, bank, queries) if place % ranks == rank else [])
        return [score for level in gather_lists(found) for score in level]
