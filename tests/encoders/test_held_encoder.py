from pathlib import Path
from typing import Any

import pytest
import torch

from lit_vlm.checkpoints import load_model
from lit_vlm.encoders import (
    CLIPEncoder,
    DINOv2Encoder,
    EnsembleEncoder,
    SigLIPEncoder,
    TimmEncoder,
    VisionEncoder,
)
from lit_vlm.pretraining.classification import ClassificationPretraining

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}
FAMILIES: list[tuple[type[Any], dict[str, Any]]] = [
    (CLIPEncoder, {"config": SIZES}),
    (SigLIPEncoder, {"config": SIZES}),
    (DINOv2Encoder, {"config": SIZES}),
    (DINOv2Encoder, {"config": SIZES, "port": "timm"}),
    (TimmEncoder, {"model_name": "vit_tiny_patch16_224", "config": SIZES}),
    (TimmEncoder, {"model_name": "test_resnet"}),
]
NAMES = ["clip", "siglip", "dinov2", "dinov2 of timm", "timm's vit", "timm's resnet"]
PLAIN: dict[str, Any] = {"image_size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3)}


def save(model: Any, path: Path) -> str:
    content = {"state_dict": model.state_dict(), "pytorch-lightning_version": "2.6.6"}
    model._trainer = None
    model.on_save_checkpoint(content)
    torch.save(content, path)
    return str(path)


def pretraining(encoder: VisionEncoder) -> ClassificationPretraining:
    return ClassificationPretraining(encoder, num_classes=3)


@pytest.mark.parametrize(("kind", "arguments"), FAMILIES, ids=NAMES)
def test_takes_the_encoder_out_of_a_pretraining(
    kind: type[Any], arguments: dict[str, Any], tmp_path: Path
) -> None:
    trained = kind(**arguments, **PLAIN, layers=[-1], pool=True)
    path = save(pretraining(trained), tmp_path / "last.ckpt")
    named = {name: value for name, value in arguments.items() if name != "config"}

    taken = kind(**named, pretrained=path, layers=[1, -2])

    assert taken.image_size == trained.image_size
    assert torch.allclose(taken.mean.flatten(), torch.tensor([0.4, 0.5, 0.6]))
    reference = kind(**arguments, **PLAIN, layers=[1, -2], pool=True)
    reference.load_state_dict(trained.state_dict())
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for ours, theirs in zip(taken.eval()(images)[0], reference.eval()(images)[0], strict=True):
            assert torch.equal(ours, theirs)
    assert kind(**arguments, pretrained=path).grid == trained.grid  # sizes that say the same


def test_takes_the_encoder_out_of_any_model(tmp_path: Path) -> None:
    encoder = CLIPEncoder(SIZES, **PLAIN)
    alone = save(encoder, tmp_path / "alone.ckpt")
    ensemble = EnsembleEncoder({"clip": encoder, "dino": DINOv2Encoder(config=SIZES, **PLAIN)})
    several = save(pretraining(ensemble), tmp_path / "several.ckpt")
    for path in (alone, several):
        taken = CLIPEncoder(pretrained=path)
        for name, value in encoder.state_dict().items():
            assert torch.equal(taken.state_dict()[name], value)


def test_a_model_with_it_is_rebuilt_without_the_checkpoint(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, **PLAIN)), tmp_path / "last.ckpt")
    model = pretraining(CLIPEncoder(pretrained=path))
    again = save(model, tmp_path / "again.ckpt")
    Path(path).unlink()
    rebuilt = load_model(again)
    assert isinstance(rebuilt, ClassificationPretraining)
    assert torch.equal(_class_token(rebuilt), _class_token(model))


def _class_token(model: Any) -> torch.Tensor:
    return model.encoder.network.embeddings.class_embedding


def test_works_at_another_size_where_positions_are_resampled(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, **PLAIN)), tmp_path / "last.ckpt")
    assert CLIPEncoder(pretrained=path, image_size=64).grid == (8, 8)
    path = save(
        pretraining(TimmEncoder("vit_tiny_patch16_224", config=SIZES, **PLAIN)),
        tmp_path / "timm.ckpt",
    )
    with pytest.raises(ValueError, match=r"shapes of this one, got pos_embed of \(1, 17, 32\)"):
        TimmEncoder("vit_tiny_patch16_224", pretrained=path, image_size=64)


def test_refuses_another_kind_of_encoder(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, **PLAIN)), tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="holds one SigLIPEncoder, got .*which holds CLIPEncoder"):
        SigLIPEncoder(pretrained=path)
    two: dict[str, VisionEncoder] = {name: CLIPEncoder(SIZES, **PLAIN) for name in ("one", "two")}
    path = save(pretraining(EnsembleEncoder(two)), tmp_path / "two.ckpt")
    with pytest.raises(ValueError, match="which holds 2 of them"):
        CLIPEncoder(pretrained=path)


def test_refuses_arguments_that_say_otherwise(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, **PLAIN)), tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="depth must be 3, as in .*last.ckpt, got 4"):
        CLIPEncoder({**SIZES, "depth": 4}, pretrained=path)
    path = save(pretraining(TimmEncoder("test_resnet", **PLAIN)), tmp_path / "timm.ckpt")
    with pytest.raises(ValueError, match="model_name must be 'test_resnet'"):
        TimmEncoder("resnet18", pretrained=path)


def test_refuses_layers_that_were_cut_off(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, layers=[-2], **PLAIN)), tmp_path / "last.ckpt")
    assert CLIPEncoder(pretrained=path, layers=[2]).dims == (32,)
    with pytest.raises(ValueError, match="must hold all that is read of it, got none of encoder"):
        CLIPEncoder(pretrained=path, layers=[-1])


def test_reads_other_projects_checkpoints_as_weights(tmp_path: Path) -> None:
    network = TimmEncoder("test_resnet", pool=True, **PLAIN).network
    torch.save({"state_dict": network.state_dict()}, tmp_path / "theirs.ckpt")
    taken = TimmEncoder("test_resnet", pretrained=tmp_path / "theirs.ckpt", pool=True, **PLAIN)
    weights = next(iter(network.state_dict().items()))
    assert torch.equal(taken.network.state_dict()[weights[0]], weights[1])


def test_says_that_there_is_no_such_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint .*none.ckpt"):
        CLIPEncoder(SIZES, pretrained=tmp_path / "none.ckpt", **PLAIN)


def test_the_checkpoints_statistics_beat_those_given(tmp_path: Path) -> None:
    path = save(pretraining(CLIPEncoder(SIZES, **PLAIN)), tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=r"mean \[0.4, 0.5, 0.6\] of .*is used, not"):
        taken = CLIPEncoder(pretrained=path, mean=(0.1, 0.1, 0.1))
    assert torch.allclose(taken.mean.flatten(), torch.tensor([0.4, 0.5, 0.6]))


def test_says_which_file_of_a_run_to_give(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="folder of a run. Give one of its .*run/checkpoints/last"):
        CLIPEncoder(pretrained=tmp_path / "run")
