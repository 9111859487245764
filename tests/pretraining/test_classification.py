from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, Trainer
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.functional import accuracy

from lit_vlm.checkpoints import load_model
from lit_vlm.data import EasyVQACaptions, ImageTextDataModule
from lit_vlm.data.image_batches import LabelledBatch
from lit_vlm.encoders import CLIPEncoder, TimmEncoder
from lit_vlm.pretraining.classification import ClassificationPretraining


def model(num_classes: int = 7, **others: Any) -> ClassificationPretraining:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_resnet", layers=[2], image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    return ClassificationPretraining(encoder, num_classes, **others)


def labelled(count: int = 8, classes: int = 7, seed: int = 0) -> LabelledBatch:
    torch.manual_seed(seed)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return LabelledBatch(images, torch.arange(count) % classes, torch.arange(count))


class Pictures(LightningDataModule):
    """Eight pictures, each in a class of its own or nearly."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.classes = tuple(f"class {i}" for i in range(classes))

    def train_dataloader(self) -> Any:
        return DataLoader([labelled()], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = train_dataloader


def quiet(folder: Path, **others: Any) -> Trainer:
    plain: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
    }
    return Trainer(**{**plain, **others})


def test_the_loss_is_the_smoothed_cross_entropy_of_the_pooled_features() -> None:
    made = model(label_smoothing=0.2).eval()
    batch = labelled()
    figures = made.training_figures(batch)
    pooled = made.encoder(batch.images).levels[-1].mean(1)
    logits = made.head[1](pooled)
    log_probabilities = logits.log_softmax(-1)
    own = log_probabilities[torch.arange(8), batch.labels]
    by_hand = -(0.8 * own + 0.2 * log_probabilities.mean(-1)).mean()
    assert torch.allclose(figures["loss"], by_hand, atol=1e-6)
    assert figures["accuracy"] == (logits.argmax(-1) == batch.labels).float().mean()


def test_pools_what_the_encoder_pools() -> None:
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
    encoder = CLIPEncoder(sizes, image_size=32, pool=True)
    made = ClassificationPretraining(encoder, 3).eval()
    images = labelled(2).images
    pooled = encoder(images).pooled
    assert pooled is not None
    assert torch.allclose(made(images), made.head(pooled))


def test_every_trainable_tensor_gets_a_gradient() -> None:
    for mixup in (0.0, 0.8):
        made = model(mixup=mixup)
        loss = made.training_figures(labelled())["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for p in made.parameters())


def test_mixed_batches_are_trained_on_mixed_targets() -> None:
    made = model(mixup=0.8, label_smoothing=0.0).eval()
    batch = labelled()
    torch.manual_seed(5)
    loss = made.training_figures(batch)["loss"]
    torch.manual_seed(5)
    images, targets = made.mixing(batch.images, batch.labels, 7)
    assert torch.allclose(loss, cross_entropy(made(images), targets))
    assert not torch.allclose(loss, cross_entropy(made(batch.images), batch.labels))


def test_learns_scores_and_is_rebuilt_from_its_checkpoint(tmp_path: Path) -> None:
    made = model(learning_rate=1e-2, schedule="constant")
    trainer = quiet(tmp_path, max_steps=30)
    trainer.fit(made, Pictures())
    assert trainer.callback_metrics["val/top1"] == 1
    assert trainer.callback_metrics["val/samples"] == 8
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)

    again = load_model(tmp_path / "last.ckpt")
    assert isinstance(again, ClassificationPretraining)
    assert again.classes == Pictures().classes
    [figures] = quiet(tmp_path).test(again, Pictures(), verbose=False)
    batch = labelled()
    with torch.no_grad():
        logits = again.eval()(batch.images)
    top5 = accuracy(logits, batch.labels, "multiclass", num_classes=7, top_k=5, average="micro")
    assert figures["test/top5"] == pytest.approx(float(top5))
    assert figures["test/loss"] == pytest.approx(
        float(cross_entropy(logits, batch.labels)), abs=1e-5
    )


def test_refuses_data_with_another_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the data, 9, got 7. Give --model.num_classes 9"):
        quiet(tmp_path, max_steps=1).fit(model(), Pictures(9))


def test_refuses_to_test_on_other_classes(tmp_path: Path) -> None:
    made = model()
    made.load_checkpoint_state({"classes": ["cat", *Pictures().classes[1:]]})
    with pytest.raises(ValueError, match="classes that were trained on, got 'class 0'"):
        quiet(tmp_path).test(made, Pictures(), verbose=False)


def test_refuses_to_go_on_or_test_from_a_checkpoint_on_other_classes(tmp_path: Path) -> None:
    trainer = quiet(tmp_path, max_steps=1)
    trainer.fit(model(schedule="constant"), Pictures())
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    others = Pictures()
    others.classes = others.classes[::-1]
    path: Any = tmp_path / "last.ckpt"
    for run in (quiet(tmp_path).test, quiet(tmp_path, max_steps=2).fit):
        with pytest.raises(ValueError, match="classes that were trained on, got 'class 6'"):
            run(model(schedule="constant"), datamodule=others, ckpt_path=path)


def test_refuses_data_of_a_single_class_or_for_another_module(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two classes or more, got 'class 0' alone"):
        quiet(tmp_path, max_steps=1).fit(model(), Pictures(1))
    pairs = ImageTextDataModule(EasyVQACaptions("train"))
    with pytest.raises(ValueError, match="must be ImageClassificationDataModule, got ImageText"):
        quiet(tmp_path, max_steps=1).fit(model(), pairs)


def test_refuses_a_picture_without_a_class() -> None:
    batch = labelled()
    batch.labels[3] = -1
    with pytest.raises(ValueError, match="every picture must have a class, got picture 3"):
        model().training_figures(batch)


def test_refuses_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        model(1)
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1, got 1"):
        model(label_smoothing=1.0)
