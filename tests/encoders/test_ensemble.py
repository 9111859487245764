from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.cli import instantiate_module
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.testing import assert_close

from lit_vlm import VisionLanguageModel
from lit_vlm.callbacks import Freeze
from lit_vlm.connectors import LinearConnector
from lit_vlm.data import Batch, ConversationDataModule, JSONConversations
from lit_vlm.encoders import (
    CLIPEncoder,
    DINOv2Encoder,
    EnsembleEncoder,
    SigLIPEncoder,
    TimmEncoder,
    VisionEncoder,
)
from lit_vlm.fusions import COMMFusion
from lit_vlm.prompts import Plain
from lit_vlm.testing import check_encoder

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 14}
SMALL: dict[str, Any] = {**SIZES, "embed_dim": 24}


def clip(side: int = 56, **options: Any) -> CLIPEncoder:
    torch.manual_seed(0)
    return CLIPEncoder(SIZES, image_size=side, **{"layers": [1, 2], **options})


def dino(side: int = 56, **options: Any) -> DINOv2Encoder:
    torch.manual_seed(1)
    return DINOv2Encoder(config=SMALL, image_size=side, **{"layers": [-2], **options})


def pair(first: int = 56, second: int = 56, **options: Any) -> EnsembleEncoder:
    return EnsembleEncoder({"clip": clip(first), "dino": dino(second)}, **options)


def some_images(side: int = 56) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


@torch.no_grad()
def levels(encoder: VisionEncoder, images: Tensor) -> tuple[Tensor, ...]:
    return encoder(images).levels


def test_contract() -> None:
    check_encoder(pair())


@pytest.mark.parametrize(("first", "second"), [(56, 84), (84, 56)])
@pytest.mark.parametrize("grid", [None, (4, 4), (5, 3)], ids=str)
def test_contract_with_other_grids(first: int, second: int, grid: tuple[int, int] | None) -> None:
    encoder = pair(first, second, grid=grid)
    assert encoder.grid == (grid or (first // 14, first // 14))
    assert encoder.image_size == (84, 84)
    check_encoder(encoder)


def test_contract_with_pooled_outputs() -> None:
    members = {"clip": clip(pool=True), "dino": dino(pool=True)}
    check_encoder(EnsembleEncoder(dict(members)))


def test_contract_with_a_convolutional_network_and_three_members() -> None:
    half = (0.5, 0.5, 0.5)
    resnet = TimmEncoder("test_resnet", layers=[2], image_size=32, mean=half, std=half)
    siglip = SigLIPEncoder(SIZES, image_size=42)
    encoder = EnsembleEncoder({"clip": clip(), "resnet": resnet, "siglip": siglip})
    assert encoder.dims_by_encoder == ((32, 32), resnet.dims, (32,))
    check_encoder(encoder)


@pytest.mark.parametrize("side", [56, 70])
def test_levels_are_the_members_own_in_order(side: int) -> None:
    eye, other = clip(layers=[2, 0]), dino(layers=[-1, 1])
    encoder = EnsembleEncoder({"dino": other, "clip": eye})
    assert list(encoder.encoders) == ["dino", "clip"]
    assert encoder.dims == (24, 24, 32, 32)
    assert encoder.dims_by_encoder == ((24, 24), (32, 32))
    images = some_images(side)
    expected = [*levels(other, images), *levels(eye, images)]
    for level, own in zip(levels(encoder, images), expected, strict=True):
        assert torch.equal(level, own)


def test_each_member_normalises_by_its_own_statistics() -> None:
    one, other = (0.2, 0.4, 0.6), (0.6, 0.5, 0.4)
    images = some_images()
    together = levels(EnsembleEncoder({"a": clip(mean=one), "b": clip(mean=other)}), images)
    swapped = levels(EnsembleEncoder({"a": clip(mean=other), "b": clip(mean=one)}), images)
    for index in (0, 1):
        assert not torch.allclose(together[index], together[index + 2], atol=1e-3)
        assert torch.equal(together[index], swapped[index + 2])
        assert torch.equal(together[index + 2], swapped[index])


def test_padding_is_of_the_mean_colour_of_the_members() -> None:
    encoder = EnsembleEncoder({"a": clip(mean=(0.2, 0.4, 0.6)), "b": clip(mean=(0.6, 0.4, 0.2))})
    assert encoder.fill == (102, 102, 102)
    images = some_images()
    assert encoder.preprocess(images) is images


@pytest.mark.parametrize("grid", [None, (2, 2), (8, 5)], ids=str)
def test_levels_are_resampled_as_smoothed_maps(grid: tuple[int, int] | None) -> None:
    eye, other = clip(56), dino(84)
    encoder = EnsembleEncoder({"clip": eye, "dino": other}, grid=grid)
    images = some_images(84)
    by_clip = levels(eye, images)
    (by_dino,) = levels(other, images)
    rows, columns = grid or (4, 4)
    *from_clip, from_dino = levels(encoder, images)
    square = by_dino.transpose(1, 2).reshape(2, 24, 6, 6)
    resampled = interpolate(square, (rows, columns), mode="bilinear", antialias=True)
    for row in range(rows):
        for column in range(columns):
            assert_close(from_dino[:, row * columns + column], resampled[:, :, row, column])
    if grid is None:
        for level, own in zip(from_clip, by_clip, strict=True):
            assert torch.equal(level, own)
    else:
        assert not torch.equal(from_clip[0].mean(1), by_clip[0].mean(1))


def test_halving_a_grid_by_hand() -> None:
    encoder = pair(56, 56, grid=(1, 1))
    level = torch.tensor([0.0, 2.0, 4.0, 10.0]).reshape(1, 4, 1)
    assert_close(encoder._to_grid(level, (2, 2)), torch.tensor([[[4.0]]]))


def test_resamples_bfloat16_and_keeps_it() -> None:
    encoder = pair(56, 84).to(torch.bfloat16)
    for level in encoder(some_images()).levels:
        assert level.dtype == torch.bfloat16
        assert level.isfinite().all()
        assert level.shape[1] == 16


def test_pooled_outputs_are_concatenated() -> None:
    eye, other = clip(pool=True), dino(pool=True)
    encoder = EnsembleEncoder({"clip": eye, "dino": other})
    images = some_images()
    with torch.no_grad():
        one, two = eye(images).pooled, other(images).pooled
        assert one is not None
        assert two is not None
        assert torch.equal(encoder(images).pooled, torch.cat([one, two], dim=-1))


def test_there_is_no_pooled_output_unless_all_have_one() -> None:
    encoder = EnsembleEncoder({"clip": clip(pool=True), "dino": dino()})
    assert encoder(some_images()).pooled is None


def test_every_member_ends_at_its_own_deepest_layer() -> None:
    encoder = EnsembleEncoder({"clip": clip(layers=[1, 0]), "dino": dino(layers=[-2])})
    members: Any = encoder.encoders.items()
    depths = {name: len(member.blocks) for name, member in members}
    assert depths == {"clip": 1, "dino": 2}


def test_a_frozen_member_keeps_no_graph_and_its_mode() -> None:
    encoder = pair()
    frozen: Any = encoder.encoders["dino"]
    frozen.freeze()
    encoder.train()
    assert not frozen.training
    assert encoder.encoders["clip"].training
    one, two, last = encoder(some_images()).levels
    assert one.requires_grad
    assert two.requires_grad
    assert not last.requires_grad
    torch.autograd.backward(one.sum() + two.sum() + last.sum())
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoders.dino."), name


def test_a_frozen_ensemble_keeps_no_graph() -> None:
    encoder = pair().freeze().train()
    assert not any(level.requires_grad for level in encoder(some_images()).levels)
    assert not any(member.training for member in encoder.modules())


def test_is_rebuilt_from_its_record() -> None:
    encoder = pair(56, 84, grid=(3, 3))
    record = encoder.rebuild_config()
    again = instantiate_module(EnsembleEncoder, deepcopy(record["init_args"]))  # it changes them
    again.load_state_dict(encoder.state_dict())
    assert again.rebuild_config() == record
    assert list(again.encoders) == ["clip", "dino"]
    images = some_images()
    for level, expected in zip(levels(again, images), levels(encoder, images), strict=True):
        assert torch.equal(level, expected)


def test_pretrained_members_are_rebuilt_without_their_folder(tmp_path: Path) -> None:
    clip(pool=True).network.save_pretrained(tmp_path)
    encoder = EnsembleEncoder(
        {"clip": CLIPEncoder(pretrained=tmp_path, layers=[-2]), "dino": dino()}
    )
    for file in tmp_path.iterdir():
        file.unlink()
    again = instantiate_module(EnsembleEncoder, encoder.rebuild_config()["init_args"])
    again.load_state_dict(encoder.state_dict())
    images = some_images()
    for level, expected in zip(levels(again, images), levels(encoder, images), strict=True):
        assert torch.equal(level, expected)


@pytest.mark.parametrize("names", [(), ("clip",)], ids=str)
def test_refuses_fewer_than_two(names: tuple[str, ...]) -> None:
    message = f"EnsembleEncoder: encoders must be two or more, got {len(names)}. Use a single one"
    with pytest.raises(ValueError, match=message):
        EnsembleEncoder({name: clip() for name in names})


@pytest.mark.parametrize("name", ["a.b", "", "dino v2", "2nd", "keys", "train"])
def test_refuses_a_name_that_cannot_be_an_attributes(name: str) -> None:
    with pytest.raises(ValueError, match=f"must have names like clip or dino_large, got '{name}'"):
        EnsembleEncoder({"clip": clip(), name: dino()})


@pytest.mark.parametrize("grid", [(0, 4), (4, -1)])
def test_refuses_an_empty_grid(grid: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=rf"EnsembleEncoder: grid must be positive, got \({grid[0]}"
    ):
        pair(grid=grid)


MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]


def comm(tiny_model: MakeModel) -> VisionLanguageModel:
    """COMM in small: all of CLIP's layers, the last of DINOv2's, merged per encoder."""
    encoder = EnsembleEncoder({"clip": clip(56, layers=[1, 2, 3]), "dino": dino(84, layers=[2, 3])})
    language_model = tiny_model().language_model
    return VisionLanguageModel(
        encoder, language_model, LinearConnector, COMMFusion, prompt=Plain(), max_new_tokens=3
    )


def first_batch(model: VisionLanguageModel, path: Path) -> Batch:
    data = ConversationDataModule(test=JSONConversations(path), batch_size=32, probes=())
    data.processor = model.processor
    data.setup("test")
    loader: Any = data.test_dataloader()
    return next(iter(loader[0] if isinstance(loader, list) else loader))


def test_comm_learns_through_both_encoders(
    tiny_model: MakeModel, color_questions: MakeData
) -> None:
    model = comm(tiny_model)
    assert isinstance(model.fusion, COMMFusion)
    assert model.fusion.in_dims == ((32, 32, 32), (24, 24))
    assert model.fusion.out_dim == 32 + 24
    assert model.processor.tokens_per_image == model.encoder.num_tokens == 16

    batch = first_batch(model, color_questions([True, False, True]))
    assert batch.images.shape == (2, 3, 84, 84)
    seen = model.see(batch.images)
    assert seen.shape[:2] == (2, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(batch)
        mean = loss.total / loss.num_tokens
        torch.autograd.backward(mean)
        idle = [name for name, weight in model.named_parameters() if weight.grad is None]
        assert idle == []
        optimizer.step()
        losses.append(float(mean.detach()))
    assert all(loss == loss for loss in losses)
    assert losses[-1] < losses[0]
    assert len(model.generate(batch)) == 3


def test_one_member_is_frozen_by_its_dotted_name(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    model = comm(tiny_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = ConversationDataModule(
        train=JSONConversations(color_questions([True, True])), batch_size=2, probes=()
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        callbacks=[Freeze(["encoder.encoders.dino"])],
    )
    trainer.fit(model, data)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert not any(name.startswith("encoder.encoders.dino") for name in moved)
    assert any(name.startswith("encoder.encoders.clip") for name in moved)
    assert any(name.startswith("fusion") for name in moved)


def test_members_are_found_by_dotted_name(tiny_model: MakeModel) -> None:
    model = comm(tiny_model)
    member: nn.Module = model.get_submodule("encoder.encoders.dino")
    assert isinstance(member, DINOv2Encoder)
