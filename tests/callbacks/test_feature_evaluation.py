import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from PIL import Image
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

from lit_vlm.callbacks import BestCheckpoint, FeatureEvaluation
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.data.classification_datamodule import ImageClassificationDataModule
from lit_vlm.data.image_batches import LabelledBatch
from lit_vlm.data.image_folder import ImageFolder
from lit_vlm.encoders import TimmEncoder
from lit_vlm.metrics.nearest_neighbours import nearest_neighbours

SIDE = 16
CLASSES = ("red", "green", "blue")
MakeTrainer = Callable[..., Trainer]
CLI = Callable[..., tuple[int, str, str]]


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise in which one channel is a little brighter, and which one it is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    images = torch.randint(0, 200, (count, 3, SIDE, SIDE), generator=generator)
    images[torch.arange(count), labels] += 40
    return images.to(torch.uint8), labels


class ColorData(LightningDataModule):
    """Gives labelled pictures, each once over all ranks; one has no class."""

    classes = CLASSES
    sizes = {"train": 45, "val": 21, "test": 17}

    def __init__(self) -> None:
        super().__init__()
        self.was_set_up: list[str] = []

    def setup(self, stage: str) -> None:
        self.was_set_up.append(stage)

    def batches(self, split: str, share: bool, size: int = 4) -> Sequence[LabelledBatch]:
        images, labels = pictures(self.sizes[split], len(split))
        labels[5] = -1
        index = torch.arange(len(labels))
        if share and distributed.is_initialized():
            index = index[distributed.get_rank() :: distributed.get_world_size()]
        chunks = [index[start : start + size] for start in range(0, len(index), size)]
        return [LabelledBatch(images[i], labels[i], i) for i in chunks]

    def labelled_loader(self, split: str) -> DataLoader[Any]:
        # A loader without a generator of its own draws from everyone's.
        rows: Any = self.batches(split, share=True)
        return DataLoader(rows, batch_size=None, shuffle=False)

    def train_dataloader(self) -> DataLoader[Any]:
        rows: Any = self.batches("train", share=False)
        own = torch.Generator().manual_seed(0)
        return DataLoader(rows, batch_size=None, generator=own)

    def val_dataloader(self) -> DataLoader[Any]:
        rows: Any = self.batches("val", share=False)
        return DataLoader(rows, batch_size=None, generator=torch.Generator().manual_seed(0))

    def test_dataloader(self) -> DataLoader[Any]:
        rows: Any = self.batches("test", share=False)
        return DataLoader(rows, batch_size=None, generator=torch.Generator().manual_seed(0))


class NoPictures(LightningDataModule):
    def test_dataloader(self) -> DataLoader[Any]:
        rows: Any = torch.zeros(1, 1)
        return DataLoader(rows)


class Stranger(LightningModule):
    """Another project's module, which happens to have an encoder of this library."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(encoder.dims[-1], 3)
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        vectors = self.drop(self.encoder(batch.images).levels[-1].mean(1))
        loss = cross_entropy(self.head(vectors), batch.labels.clamp(min=0))
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert not self.encoder.training

    def test_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Comparing(Stranger):
    """It also embeds images and texts: a colour's name is the colour."""

    def embed_images(self, images: Tensor) -> Tensor:
        means = images.float().mean((2, 3))
        return normalize(means - means.mean(1, keepdim=True), dim=1)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[[name in text for name in CLASSES].index(True)] for text in texts])
        return ids, torch.ones_like(ids)

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.eye(3)[input_ids[:, 0]] - 1 / 3


def encoder(layers: Sequence[int] = (1, 2), pool: bool = False) -> TimmEncoder:
    seed_everything(0, verbose=False)
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
    options: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "config": sizes}
    return TimmEncoder("test_vit", layers=list(layers), pool=pool, image_size=SIDE, **options)


def by_hand(eye: Any, data: ColorData, split: str, k: int) -> tuple[dict[str, float], int]:
    """Accuracy by level of k-NN on the means of patches, and the number of pictures."""

    def seen(part: str) -> tuple[list[Tensor], Tensor]:
        images, labels = pictures(data.sizes[part], len(part))
        kept = [i for i in range(len(labels)) if i != 5]
        with torch.no_grad():
            levels = eye.eval()(images[kept]).levels
        return [level.mean(1) for level in levels], labels[kept]

    (bank, known), (queries, truth) = seen("train"), seen(split)
    found = [nearest_neighbours(b, known, q, [k])[0] for b, q in zip(bank, queries, strict=True)]
    right = [float((row == truth).float().mean()) for row in found]
    return dict(zip(eye.level_names, right, strict=True)), len(truth)


def test_evaluates_every_level_of_an_encoder_alone(
    quiet_trainer: MakeTrainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eye, data = encoder(pool=True), ColorData()
    callback = FeatureEvaluation(knn=[1, 5], probe_learning_rates=[0.01, 0.1], probe_steps=50)
    trainer = quiet_trainer(callback)
    [figures] = trainer.test(eye, datamodule=data, verbose=False)
    levels, samples = by_hand(eye, data, "test", 5)
    assert samples == 16
    for name, accuracy in levels.items():
        assert figures[f"test/knn_5_{name}"] == pytest.approx(accuracy)
    assert figures["test/knn"] == figures["test/knn_5_pooled"]
    assert figures["test/probe"] == figures["test/probe_pooled"]
    assert figures["test/labelled_samples"] == 16
    assert max(figures[f"test/probe_{name}"] for name in levels) > 0.6
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert (content["train_samples"], len(content["scores"])) == (44, 9)
    probe = next(s for s in content["scores"] if s["method"] == "probe")
    assert probe["learning_rate"] in (0.01, 0.1)
    assert probe["low"] < probe["accuracy"] <= probe["high"]
    printed = capsys.readouterr().out
    assert "accuracy in % on 16 test pictures (95% interval), learnt from 44" in " ".join(
        printed.split()
    )
    for word in ("layer_1", "layer_2", "pooled", "5-NN", "linear probe"):
        assert word in printed


def test_writes_a_table_of_values_where_asked(quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    output = tmp_path / "scores" / "of_it.csv"
    callback = FeatureEvaluation(knn=[3], probe_learning_rates=[], output=output)
    quiet_trainer(callback).test(encoder(), datamodule=ColorData(), verbose=False)
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["level"], row["samples"]) for row in rows] == [
        ("knn_3", "layer_1", "16"),
        ("knn_3", "layer_2", "16"),
    ]


def fit(
    make: MakeTrainer, *callbacks: Any, module: Any = None, epochs: int = 3, resume: Any = None
) -> tuple[Any, Trainer]:
    seed_everything(1, verbose=False)
    module = module or Stranger(encoder())
    trainer = make(*callbacks, limit_val_batches=1.0, max_epochs=epochs)
    trainer.fit(module, datamodule=ColorData(), ckpt_path=resume)
    return module, trainer


def test_a_checkpoint_can_monitor_it_while_another_projects_module_trains(
    quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    best = BestCheckpoint(monitor="val/knn")
    callback = FeatureEvaluation(knn=[3], probe_learning_rates=[])
    # The trainer puts checkpoints behind other callbacks, whatever their order.
    module, trainer = fit(
        lambda *c, **o: quiet_trainer(*c, **{**o, "enable_checkpointing": True}), best, callback
    )
    assert best.best_model_score is not None
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    [last], samples = [by_hand(module.encoder, ColorData(), "val", 3)[0]["layer_2"]], 20
    assert trainer.callback_metrics["val/knn"] == pytest.approx(last)
    assert trainer.callback_metrics["val/labelled_samples"] == samples


def test_training_takes_the_same_course_with_it_as_without(quiet_trainer: MakeTrainer) -> None:
    without, _ = fit(quiet_trainer)
    evaluated, _ = fit(quiet_trainer, FeatureEvaluation(knn=[3], probe_steps=3))
    assert evaluated.losses == without.losses
    assert len(set(without.losses)) > 3


def test_evaluates_in_each_nth_validation_also_of_a_resumed_run(
    quiet_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    def note(self: Any, trainer: Any, module: Any, split: str) -> None:
        epochs.append(trainer.current_epoch)

    monkeypatch.setattr(FeatureEvaluation, "_evaluate", note)
    _, trainer = fit(quiet_trainer, FeatureEvaluation(every_n_validations=2), epochs=3)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    fit(
        quiet_trainer,
        FeatureEvaluation(every_n_validations=2),
        epochs=6,
        resume=tmp_path / "three.ckpt",
    )
    assert epochs == [1, 3, 5]
    epochs.clear()
    fit(quiet_trainer, FeatureEvaluation(every_n_validations=0), epochs=2)
    assert epochs == []


def test_takes_data_of_its_own_and_shows_it_the_encoder(quiet_trainer: MakeTrainer) -> None:
    own = ColorData()
    callback = FeatureEvaluation(own, knn=[1], probe_learning_rates=[])
    module, trainer = Stranger(encoder()), quiet_trainer(callback)
    [figures] = trainer.test(module, datamodule=NoPictures(), verbose=False)
    assert figures["test/labelled_samples"] == 16
    assert own.was_set_up == ["test"]
    seen: Any = own.trainer
    assert seen.lightning_module is module.encoder
    assert seen.world_size == 1


def test_classifies_by_the_names_of_classes_where_texts_are_embedded(
    quiet_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = FeatureEvaluation(knn=[], probe_learning_rates=[], templates="simple")
    module = Comparing(encoder())
    [figures] = quiet_trainer(callback).test(module, datamodule=ColorData(), verbose=False)
    images, labels = pictures(17, len("test"))
    right = module.embed_images(images).argmax(1) == labels
    right = right[torch.arange(17) != 5]
    assert figures["test/zero_shot_top1"] == pytest.approx(float(right.float().mean()))
    assert set(figures) == {"test/zero_shot_top1", "test/labelled_samples"}
    assert "zero-shot top-1" in capsys.readouterr().out


def test_two_ranks_find_what_one_process_does(
    quiet_trainer: MakeTrainer, two_ranks: Callable[..., list[Any]]
) -> None:
    def evaluate(**options: Any) -> dict[str, float]:
        callback = FeatureEvaluation(knn=[1, 5], probe_steps=20)
        trainer = quiet_trainer(callback, **options)
        [figures] = trainer.test(Comparing(encoder()), datamodule=ColorData(), verbose=False)
        return {name: float(value) for name, value in figures.items()}

    one = evaluate()

    def job() -> Any:
        return evaluate(devices=2, strategy="ddp", use_distributed_sampler=False)

    for figures in two_ranks(job):
        assert figures == pytest.approx(one)
    assert len(one) > 8


def test_works_in_half_precision(quiet_trainer: MakeTrainer) -> None:
    for precision in ("bf16-mixed", "bf16-true"):
        callback = FeatureEvaluation(knn=[3], probe_steps=20)
        trainer = quiet_trainer(callback, precision=precision)
        [figures] = trainer.test(Comparing(encoder()), datamodule=ColorData(), verbose=False)
        assert figures["test/labelled_samples"] == 16
        assert 0 <= figures["test/probe"] <= 1


def test_leaves_out_more_neighbours_than_there_are_pictures(quiet_trainer: MakeTrainer) -> None:
    callback = FeatureEvaluation(knn=[3, 100], probe_learning_rates=[])
    with pytest.warns(UserWarning, match=r"knn \[100\] are left out: there are only 44 training"):
        [figures] = quiet_trainer(callback).test(encoder(), datamodule=ColorData(), verbose=False)
    assert figures["test/knn"] == figures["test/knn_3_layer_2"]


def test_is_silent_where_a_test_has_no_pictures_with_classes(quiet_trainer: MakeTrainer) -> None:
    [figures] = quiet_trainer(FeatureEvaluation()).test(
        Stranger(encoder()), datamodule=NoPictures(), verbose=False
    )
    assert figures == {}


def test_refuses_an_encoder_alone_without_pictures_with_classes(quiet_trainer: MakeTrainer) -> None:
    with pytest.raises(TypeError, match=r"must have labelled_loader.split., as Image.*NoPictures"):
        quiet_trainer(FeatureEvaluation()).test(encoder(), datamodule=NoPictures(), verbose=False)


def test_refuses_a_module_without_an_encoder(quiet_trainer: MakeTrainer) -> None:
    module = Stranger(encoder())
    del module.encoder
    with pytest.raises(TypeError, match="must be a VisionEncoder or have one as encoder, got Stra"):
        quiet_trainer(FeatureEvaluation(ColorData())).test(
            module, datamodule=NoPictures(), verbose=False
        )


def test_the_best_state_waits_for_the_first_validation_that_evaluates(
    quiet_trainer: MakeTrainer,
) -> None:
    best = BestCheckpoint(monitor="val/knn")
    callback = FeatureEvaluation(knn=[3], probe_learning_rates=[], every_n_validations=2)
    fit(lambda *c, **o: quiet_trainer(*c, **{**o, "enable_checkpointing": True}), best, callback)
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 1


class SomeSplits(ColorData):
    """It tells which splits it has."""

    def __init__(self, *splits: str) -> None:
        super().__init__()
        self.splits = splits

    def has_split(self, split: str) -> bool:
        return split in self.splits


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (NoPictures(), "feature_evaluation.data must have labelled_loader.split., as Image"),
        (SomeSplits("train"), "feature_evaluation.data must have val, got none. Give --feature_e"),
        (SomeSplits("val"), "feature_evaluation.data must have train, got none. Give --feature_e"),
    ],
)
def test_refuses_data_that_validations_cannot_use_before_it_trains(
    quiet_trainer: MakeTrainer, own: Any, message: str
) -> None:
    module = Stranger(encoder())
    with pytest.raises((TypeError, ValueError), match=message):
        fit(quiet_trainer, FeatureEvaluation(own), module=module)
    assert module.losses == []
    quiet_trainer(FeatureEvaluation(own, every_n_validations=0), max_steps=1).fit(
        module, datamodule=ColorData()
    )


def test_refuses_the_trainers_data_before_it_trains(quiet_trainer: MakeTrainer) -> None:
    module, data = Stranger(encoder()), ColorData()
    trainer = quiet_trainer(FeatureEvaluation(), limit_val_batches=1.0, max_epochs=1)
    loaders = data.train_dataloader(), data.val_dataloader()
    with pytest.raises(TypeError, match="the data must have labelled_loader.* --feature_evaluatio"):
        trainer.fit(module, *loaders)
    assert module.losses == []


def test_leaves_out_what_learns_where_there_are_no_training_pictures(
    quiet_trainer: MakeTrainer, tmp_path: Path
) -> None:
    callback = FeatureEvaluation(output=tmp_path / "figures.json")
    with pytest.warns(UserWarning, match="neighbours and probes are left out") as warned:
        [figures] = quiet_trainer(callback).test(
            Comparing(encoder()), datamodule=SomeSplits("test"), verbose=False
        )
    assert set(figures) == {"test/zero_shot_top1", "test/labelled_samples"}
    assert sum("left out" in str(warning.message) for warning in warned) == 1
    with pytest.warns(UserWarning, match="neighbours and probes are left out"):
        [figures] = quiet_trainer(callback).test(
            Stranger(encoder()), datamodule=SomeSplits("test"), verbose=False
        )
    assert figures == {}
    assert json.loads((tmp_path / "figures.json").read_text()) == {}
    with pytest.raises(ValueError, match="data must have train, got none. Give --data.train"):
        quiet_trainer(callback).test(encoder(), datamodule=SomeSplits("test"), verbose=False)


def test_a_run_that_ends_with_a_test_goes_on_without_test_data_of_its_own(
    quiet_trainer: MakeTrainer,
) -> None:
    callback = FeatureEvaluation(SomeSplits("train", "val"))
    with pytest.warns(UserWarning, match="nothing is evaluated: its data has no test"):
        quiet_trainer(callback).test(Stranger(encoder()), datamodule=NoPictures(), verbose=False)


def test_is_silent_where_a_validation_has_no_pictures_with_classes(
    quiet_trainer: MakeTrainer,
) -> None:
    loader = ColorData().val_dataloader()
    trainer = quiet_trainer(FeatureEvaluation(), limit_val_batches=1.0)
    assert trainer.validate(Stranger(encoder()), loader, verbose=False) == [{}]


def test_refuses_to_learn_from_vectors_that_are_not_finite(quiet_trainer: MakeTrainer) -> None:
    broken = encoder()
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="FeatureEvaluation: layer_1: .* got 44 of 44 with nan"):
        quiet_trainer(FeatureEvaluation()).test(broken, datamodule=ColorData(), verbose=False)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders of pictures by class: train, val and test."""
    for split, count in (("train", 9), ("val", 6), ("test", 12)):
        images, _ = pictures(count, len(split))
        for place, image in enumerate(images):
            name = CLASSES[place % 3]
            image[place % 3] = 250
            folder = tmp_path / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{place}.png")
    return tmp_path


def words_of_data(folders: Path) -> list[str]:
    words = ["--data", "ImageClassificationDataModule"]
    for split in ("train", "val", "test"):
        words += [f"--data.{split}", "ImageFolder"]
        words += [f"--data.{split}.root", str(folders / split)]
    return words


EYE = {
    "class_path": "TimmEncoder",
    "init_args": {
        "model_name": "test_vit",
        "layers": [1, 2],
        "image_size": SIDE,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "config": {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8},
    },
}
CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", "1")


def test_the_command_line_tests_an_encoder_without_a_checkpoint(
    cli: CLI, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("lit_vlm.cli.rank_zero_warn", warned.append)
    output = tmp_path / "scores.csv"
    quick = ("--feature_evaluation.knn", "[1,3]", "--feature_evaluation.probe_steps", "9")
    model = ("--model", json.dumps(EYE), *words_of_data(folders))
    code, out, err = cli("test", *model, *CPU, *quick, "--output", output)
    assert code == 0, err
    assert f"the scores are in {output}" in out
    assert "Test metric" not in out  # Lightning's own table
    assert warned[0].startswith("TimmEncoder has random weights. Give --model.pretrained")
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == 2 * ["knn_1", "knn_3", "probe"]
    assert {row["samples"] for row in rows} == {"12"}
    code, _, err = cli("test", *model, *CPU, *quick, "--output", tmp_path / "scores.txt")
    assert code != 0
    assert "output must be a .json or .csv file, got" in err


def test_the_command_line_evaluates_a_run_when_asked_and_its_checkpoint(
    cli: CLI, folders: Path, tmp_path: Path
) -> None:
    model = {
        "class_path": "lit_vlm.pretraining.classification.ClassificationPretraining",
        "init_args": {"num_classes": 3, "encoder": EYE},
    }
    run = tmp_path / "run"
    quick = ("--feature_evaluation.knn", "[3]", "--feature_evaluation.probe_learning_rates", "[]")
    words = ["--model", json.dumps(model), *words_of_data(folders), "--data.batch_size", "3"]
    words += [*CPU, "--trainer.max_epochs", "1", "--trainer.default_root_dir", str(run)]
    words += ["--test_after_fit", "false", "--trainer.log_every_n_steps", "1", *quick]
    asked = ("--feature_evaluation.every_n_validations", "1", "--best_checkpoint.monitor")
    code, _, err = cli("fit", *words, *asked, "val/knn")
    assert code == 0, err
    assert "val/knn_3_layer_2" in (run / "metrics.csv").read_text()
    assert not (run / "evaluation.json").exists()
    best = ("--ckpt_path", run / "checkpoints/best.ckpt", *asked[2:], "val/knn")
    code, out, err = cli("test", *best, *CPU, *quick)
    assert code == 0, err
    content = json.loads((run / "evaluation-best.json").read_text())
    assert [s["samples"] for s in content["scores"]] == [12, 12]
    assert "what the features are worth" in out
    # Unless it is asked for, training does not wait for it.
    code, _, err = cli("fit", *words, "--best_checkpoint.monitor", "val/top1")
    assert code == 0, err
    assert "knn" not in (run / "metrics.csv").read_text()


def test_judges_the_eye_of_a_model_that_answers(
    tiny_model: Callable[..., Any],
    color_questions: Callable[..., Path],
    folders: Path,
    quiet_trainer: MakeTrainer,
) -> None:
    source = JSONConversations(color_questions([True] * 4))
    own = ImageClassificationDataModule(
        train=ImageFolder(folders / "train"), val=ImageFolder(folders / "val")
    )
    callback = FeatureEvaluation(own, knn=[3], probe_learning_rates=[])
    trainer = quiet_trainer(callback, limit_val_batches=1.0)
    data = ConversationDataModule(val=source, batch_size=2)
    [figures] = trainer.validate(tiny_model(), data, verbose=False)
    assert figures["val/labelled_samples"] == 6
    assert figures["val/accuracy_samples"] == 4
    assert figures["val/knn"] > 0.5


class WithoutClasses(ColorData):
    def __init__(self, split: str) -> None:
        super().__init__()
        self.split = split

    def labelled_loader(self, split: str) -> Any:
        return [] if split == self.split else super().labelled_loader(split)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "at least two training pictures with a class, got 0"),
        ("test", "there must be a picture with a class to evaluate on, got none"),
    ],
)
def test_refuses_data_without_a_labelled_picture(
    quiet_trainer: MakeTrainer, split: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quiet_trainer(FeatureEvaluation()).test(
            encoder(), datamodule=WithoutClasses(split), verbose=False
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knn": [0]}, r"knn must be numbers of neighbours, from 1 on, got \[0\]"),
        ({"probe_steps": 0}, "probe_steps must be at least 1 and every_n_validations at least 0"),
        ({"every_n_validations": -1}, "got 1000 and -1"),
        ({"templates": ["a photo"]}, "templates must be texts with {} in place of a class's name"),
        ({"output": "scores.txt"}, "output must be a .json or .csv file, got scores.txt"),
    ],
)
def test_refuses_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureEvaluation(**options)
