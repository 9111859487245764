import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize
from torch.testing import assert_close

from lit_vlm.encoders.pooling import image_vector
from lit_vlm.optim import parameter_groups
from lit_vlm.pretraining import ContrastivePretraining

Make = Callable[..., Any]


class Watch(Callback):
    """Keep what is logged, and the first batch."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.batch: Any = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batch = self.batch or batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.logged.append({n: float(v) for n, v in trainer.callback_metrics.items()})


class Steady(Callback):
    """Keep Adam from dividing gradients that are nothing but rounding by themselves."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["eps"] = 0.01


def logits_of(model: ContrastivePretraining, batch: Any) -> Tensor:
    images = image_vector(model.encoder(batch.images))
    texts = model.head.text(model.text_encoder(batch.input_ids, batch.attention_mask))
    cosines = normalize(model.head.image(images), dim=-1) @ normalize(texts, dim=-1).T
    return model.head.scale * cosines + model.head.bias


@pytest.mark.parametrize("same", ["left_out", "negatives"])
@pytest.mark.parametrize("embed_dim", [None, 8])
def test_the_losses_are_those_of_the_papers(
    towers: Make, pairs: Make, fit: Make, same: str, embed_dim: int | None
) -> None:
    for loss in ("softmax", "sigmoid"):
        model = towers(loss=loss, embed_dim=embed_dim, same_captions=same, learning_rate=1e-9)
        watcher = Watch()
        [found] = fit(model, pairs(), watcher, max_steps=1)
        model.train()
        logits = logits_of(model, watcher.batch)
        ids, place = watcher.batch.text_ids, torch.arange(6)
        twin = (ids[:, None] == ids) & ~torch.eye(6, dtype=torch.bool)
        assert twin.any()
        if same == "left_out":
            logits = logits.masked_fill(twin, -math.inf)
        if loss == "softmax":
            expected = (cross_entropy(logits, place) + cross_entropy(logits.T, place)) / 2
        else:
            signs = 2 * torch.eye(6) - 1
            expected = -logsigmoid(signs * logits).sum() / 6
        assert found == pytest.approx(expected.item(), rel=1e-4)
        logged = watcher.logged[0]
        assert logged["train/logit_scale"] == pytest.approx(10 if loss == "sigmoid" else 1 / 0.07)
        assert logged.get("train/logit_bias") == (-10 if loss == "sigmoid" else None)


def test_the_sigmoid_loss_begins_as_low_as_its_bias_makes_it(
    towers: Make, pairs: Make, fit: Make
) -> None:
    model = towers(loss="sigmoid", embed_dim=256, same_captions="negatives")
    with torch.no_grad():  # random directions are nearly at right angles
        model.head.image.weight.normal_()
        model.head.text.weight.normal_()
    [found] = fit(model, pairs(), max_steps=1)
    assert found == pytest.approx(10.0, abs=1.5)


def test_only_the_softmax_loss_keeps_its_scale_in_bounds(
    towers: Make, pairs: Make, fit: Make, tmp_path: Path
) -> None:
    for loss, bound in (("softmax", math.log(100)), ("sigmoid", 9.0)):
        model = towers(loss=loss)
        torch.nn.init.constant_(model.head.logit_scale, 9.0)
        with torch.no_grad():
            model.head.text.weight.zero_()
        fit(model, pairs(), max_steps=1, enable_checkpointing=False)
        assert model.head.logit_scale.item() == pytest.approx(bound, abs=0.02)


def test_scale_and_bias_never_decay(towers: Make) -> None:
    model = towers(loss="sigmoid")
    groups = parameter_groups(model.parts, weight_decay=0.1)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model.head.logit_scale)] == decay[id(model.head.logit_bias)] == 0
    assert decay[id(model.head.text.weight)] == 0.1


def test_micro_batches_change_nothing_but_memory(towers: Make, pairs: Make, fit: Make) -> None:
    runs, ends = [], []
    for size in (None, 2, 4):
        model = towers("test_vit", side=160, embed_dim=8, micro_batch_size=size)
        runs.append(fit(model, pairs(count=6, side=160), Steady(), max_steps=3))
        ends.append(model.state_dict())
    for run, end in zip(runs[1:], ends[1:], strict=True):
        assert run == pytest.approx(runs[0], rel=1e-4)
        assert_close(dict(end), dict(ends[0]), rtol=1e-4, atol=1e-5)


def test_validation_and_test_log_the_recall_of_all_captions(
    towers: Make, pairs: Make, fit: Make
) -> None:
    model, data = towers(embed_dim=8), pairs()
    fit(model, data, limit_val_batches=1.0, max_epochs=1)
    metrics = {n: float(v) for n, v in model.trainer.callback_metrics.items()}
    model.eval()
    batch = data.batch(range(12), all_captions=True)
    images = model.embed_images(batch.images)
    texts = model.embed_texts(batch.input_ids, batch.attention_mask)
    assert_close(images.norm(dim=1), torch.ones(12))
    assert_close(texts.norm(dim=1), torch.ones(24))
    cosines = images @ texts.T
    own = batch.index[:, None] == batch.caption_index
    best = cosines.masked_fill(~own, -2).amax(1, keepdim=True)
    place = (~own & (cosines >= best - 1e-6)).sum(1)
    assert metrics["val/image_to_text_r5"] == pytest.approx(float((place < 5).float().mean()))
    assert metrics["val/pictures"] == 12
    model.trainer.test(model, data, verbose=False)
    tested = {n: float(v) for n, v in model.trainer.callback_metrics.items()}
    assert tested["test/text_to_image_r10"] == metrics["val/text_to_image_r10"]


def test_a_checkpoint_holds_all_that_reads_captions(
    towers: Make, pairs: Make, fit: Make, tmp_path: Path
) -> None:
    class Keep(Callback):
        def on_train_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    model, data = towers(loss="sigmoid"), pairs()
    assert model.text_encoder.tokenizer is None
    fit(model, data, Keep(), max_steps=2)
    read = ContrastivePretraining.load_from_checkpoint(tmp_path / "end.ckpt")
    model.eval(), read.eval()
    words = ["a big red dot", "a green dot"]
    assert_close(read.embed_texts(*read.tokenize(words)), model.embed_texts(*model.tokenize(words)))
    assert_close(read.embed_images(data.images), model.embed_images(data.images))
    assert read.tokenize(words)[0].tolist() == model.tokenize(words)[0].tolist()


def test_without_captions_to_train_on_a_tokenizer_must_be_named(
    towers: Make, pairs: Make, fit: Make
) -> None:
    data = pairs()
    data.training_texts = None
    with pytest.raises(ValueError, match="a tokenizer must be named"):
        fit(towers(), data)


def test_warns_that_accumulation_makes_no_larger_batch(
    towers: Make, pairs: Make, fit: Make
) -> None:
    with pytest.warns(UserWarning, match="does not make the batch larger.*micro_batch_size"):
        fit(towers(), pairs(), accumulate_grad_batches=2, max_epochs=1)


def test_warns_that_batchnorm_sees_micro_batches(towers: Make, pairs: Make, fit: Make) -> None:
    with pytest.warns(UserWarning, match="BatchNorm, which sees micro-batches of 2 pictures"):
        fit(towers(micro_batch_size=2), pairs(), max_epochs=1)


def test_refuses_precisions_in_which_the_temperature_stands(
    towers: Make, pairs: Make, fit: Make
) -> None:
    with pytest.raises(ValueError, match="weights in 32 bits, got bf16-true.*Use bf16-mixed"):
        fit(towers(), pairs(), precision="bf16-true")


def test_warns_once_of_captions_that_are_cut(towers: Make, pairs: Make, fit: Make) -> None:
    model = towers()
    model.text_encoder.max_length = 3
    with pytest.warns(UserWarning, match="4 of 4 texts have more than 3 tokens") as seen:
        fit(model, pairs())
    assert len([w for w in seen if "more than" in str(w.message)]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dim": 0}, "embed_dim must be at least 1, got 0"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1, got 0"),
        ({"locked_chunk_size": 0}, "locked_chunk_size must be at least 1, got 0"),
    ],
)
def test_refuses_sizes_of_nothing(towers: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        towers(**options)


OPTIONS: list[dict[str, Any]] = [
    {"loss": "softmax", "embed_dim": 8},
    {"loss": "sigmoid"},
    {"loss": "softmax", "towers": "Lu", "micro_batch_size": 2},
    {"loss": "sigmoid", "towers": "Uu", "unlock_after": 2, "same_captions": "negatives"},
]


def test_two_processes_train_as_one_does(
    towers: Make, pairs: Make, fit: Make, two_ranks: Callable[..., Any]
) -> None:
    def job(**where: Any) -> list[Any]:
        results = []
        for options in OPTIONS:
            model, data = towers("test_vit", side=160, **options), pairs(count=13, side=160)
            model._is_restored = True
            losses = fit(model, data, Steady(), limit_val_batches=1.0, **where)
            figures = model.trainer.callback_metrics
            recall = {n: float(v) for n, v in figures.items() if n.startswith("val/")}
            results.append((losses, recall, dict(model.state_dict())))
        return results

    alone = job()
    first, second = two_ranks(lambda: job(strategy="ddp", devices=2))
    for one, a, b in zip(alone, first, second, strict=True):
        mean = [(x + y) / 2 for x, y in zip(a[0], b[0], strict=True)]
        assert mean == pytest.approx(one[0], rel=1e-4)
        assert len(mean) == 4
        assert a[1] == b[1] == pytest.approx(one[1])
        assert one[1]["val/pictures"] == 13
        for name, value in one[2].items():
            assert_close(a[2][name], b[2][name], rtol=0, atol=0)
            assert_close(a[2][name], value, rtol=1e-4, atol=1e-5)
