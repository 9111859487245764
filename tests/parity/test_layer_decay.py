"""Layer-wise decay of learning rates, against timm's helper and MAE's rule."""

from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn

from lit_vlm.layer_ids import layer_ids
from lit_vlm.part_rates import PartLR, parameter_rates

DECAY = 0.75


def get_layer_id_for_vit(name: str, num_layers: int) -> int:
    """Return MAE's layer of a parameter.

    Source: https://github.com/facebookresearch/mae/blob/main/util/lr_decay.py
    """
    if name in ["cls_token", "pos_embed"]:
        return 0
    elif name.startswith("patch_embed"):
        return 0
    elif name.startswith("blocks"):
        return int(name.split(".")[1]) + 1
    else:
        return num_layers


def made(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def vit() -> Any:
    return made("vit_tiny_patch16_224", embed_dim=24, num_heads=2, num_classes=5)


def rates(model: nn.Module) -> dict[str, Any]:
    whole = nn.ModuleDict({"encoder": model})
    return {
        name.removeprefix("encoder."): rate
        for name, rate in parameter_rates(whole, {"encoder": PartLR(layer_decay=DECAY)}).items()
    }


def test_twelve_blocks_have_the_scales_of_mae() -> None:
    model = vit()
    num_layers = len(model.blocks) + 1
    assert num_layers == 13
    layer_scales = [DECAY ** (num_layers - i) for i in range(num_layers + 1)]
    found = rates(model)
    for name, rate in found.items():  # shown by pytest -s
        print(f"{name:32} layer {rate.layer:2}  x {rate.multiplier:.6f}  decay {rate.decays}")
    for name, parameter in model.named_parameters():
        assert found[name].multiplier == layer_scales[get_layer_id_for_vit(name, num_layers)], name
        no_decay = parameter.ndim == 1 or name in model.no_weight_decay()
        assert found[name].decays == (not no_decay), name
    assert found["head.weight"].multiplier == found["norm.weight"].multiplier == 1.0
    assert found["pos_embed"].multiplier == DECAY**13


def test_timms_helper_gives_the_same_numbers() -> None:
    """All but the final norm, which timm counts to the last block, and MAE and BEiT to the head."""
    model = vit()
    skipped = model.no_weight_decay()
    groups = param_groups_layer_decay(model, 0.05, skipped, layer_decay=DECAY)
    theirs = {id(p): group for group in groups for p in group["params"]}
    found = rates(model)
    for name, parameter in model.named_parameters():
        group = theirs[id(parameter)]
        last_block = DECAY if name.startswith("norm.") else 1.0
        assert found[name].multiplier * last_block == pytest.approx(group["lr_scale"], rel=1e-12)
        assert found[name].decays == (group["weight_decay"] > 0), name


# The parameters that timm counts to the last block, and this library to the head.
LAST = {
    "swin_tiny_patch4_window7_224": {"norm"},
    "convnext_atto": set(),
    "convnextv2_atto": set(),
    "resnet18": set(),
    "resnet50": set(),
    "eva02_tiny_patch14_224": set(),
    "efficientnet_b0": {"conv_head", "bn2"},
    "mobilenetv3_small_050": set(),
    "vit_base_patch16_siglip_224": {"norm"},
    "deit_tiny_distilled_patch16_224": {"norm"},
    "naflexvit_base_patch16_gap": set(),
    "mixer_s32_224": {"norm"},
    "hiera_tiny_224": set(),
    "levit_128s": set(),
}


@pytest.mark.parametrize("name", LAST)
def test_families_whose_layers_timm_counts_by_block(name: str) -> None:
    model = made(name)
    theirs = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    ours = layer_ids(model)
    assert ours.keys() == theirs.keys()
    moved = {key.split(".")[0] for key, place in ours.items() if place.id != theirs[key]}
    assert moved == LAST[name]
    for key in ours:
        if key.split(".")[0] in moved:
            assert (theirs[key], ours[key].id) == (ours[key].depth, ours[key].depth + 1)
