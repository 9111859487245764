import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.encoders import TimmEncoder
from lit_vlm.optim import (
    decays,
    exempt_from_decay,
    parameter_groups,
    schedule_factor,
    steps_or_share,
)


def test_every_parameter_is_in_one_group_and_only_matrices_decay() -> None:
    parts = {
        "eye": nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)),
        "voice": nn.Linear(4, 5),
        "nothing": nn.Identity(),
    }
    groups = parameter_groups(parts, weight_decay=0.1)
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for m in parts.values() for p in m.parameters()}
    for group in groups:
        decay = 0.1 if group["name"].endswith(".decay") else 0.0
        assert group["weight_decay"] == decay
        assert all((p.ndim >= 2) == (decay > 0) for p in group["params"])
    assert [group["name"] for group in groups] == [
        "eye.decay",
        "eye.no_decay",
        "voice.decay",
        "voice.no_decay",
    ]


def test_embeddings_of_positions_do_not_decay_though_they_are_matrices() -> None:
    grey = (0.5, 0.5, 0.5)
    eye = TimmEncoder("test_vit", image_size=32, mean=grey, std=grey)
    decayed, undecayed = parameter_groups({"eye": eye}, weight_decay=0.1)
    names = {id(p): name.removeprefix("network.") for name, p in eye.named_parameters()}
    still = [names[id(p)] for p in undecayed["params"] if p.ndim >= 2]
    assert still == ["cls_token", "pos_embed"]
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert undecayed["weight_decay"] == 0.0


@pytest.mark.parametrize(
    "name",
    [
        "network.pos_embed",
        "network.embeddings.position_embedding.weight",
        "network.embeddings.position_embeddings",
        "positional_embedding",
        "encoder.embed_positions.weight",
        "transformer.wpe.weight",
        "layer.0.SelfAttention.relative_attention_bias.weight",
        "blocks.0.attn.relative_position_bias_table",
        "blocks.0.attn.rel_pos_h",
        "cls_token",
        "embeddings.class_embedding",
        "network.dist_token",
        "network.reg_token",
        "embeddings.register_tokens",
        "mask_token",
        "logit_scale",
        "logit_bias",
        "loss.temperature",
        "blocks.0.norm1.weight",
        "post_layernorm.weight",
        "qkv.bias",
    ],
)
def test_does_not_decay(name: str) -> None:
    assert not decays(name, torch.zeros(2, 2))


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn.qkv.weight",
        "patch_embed.proj.weight",
        "embeddings.patch_embedding.weight",
        "model.embed_tokens.weight",
        "transformer.wte.weight",
        "token_embedding.weight",
        "text_projection",
        "blocks.0.norm1.linear.weight",
        "pos_block.0.proj.weight",
        "head.weight",
    ],
)
def test_decays_matrices_and_kernels_but_no_vectors(name: str) -> None:
    assert decays(name, torch.zeros(2, 2, 1))
    assert not decays(name, torch.zeros(2))


def test_a_network_names_itself_what_does_not_decay() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.rows = nn.Parameter(torch.zeros(2, 2)), nn.Linear(2, 2)

        def no_weight_decay(self) -> set[str]:
            return {"table", "rows.*"}

    model = nn.ModuleDict({"a": Table(), "b": nn.Linear(2, 2)})
    exempt = exempt_from_decay(model)
    decayed = [name for name, p in model.named_parameters() if decays(name, p, exempt)]
    assert decayed == ["b.weight"]
    assert [group["name"] for group in parameter_groups({"a": Table()}, 0.1)] == ["a.no_decay"]


def test_a_tensor_that_two_parts_share_stands_with_the_first() -> None:
    one, other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    other.weight = one.weight
    [group] = parameter_groups({"one": one, "other": other}, weight_decay=0.1)
    assert group["part"] == "one"


def test_frozen_parameters_keep_their_place() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups({"a": layer}, 0.1)) == 2


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_warm_up_may_be_steps_or_a_share(warmup: float) -> None:
    factors = [schedule_factor(step, 100, warmup, "linear") for step in range(11)]
    assert_close(factors, [*[(k + 1) / 10 for k in range(10)], 1.0])


def test_cosine_equals_the_scheduler_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.2)
    for step in range(41):
        ours = schedule_factor(step, 40, 0, "cosine", floor=0.2)
        assert ours == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_stays_at_the_floor_behind_the_end() -> None:
    assert schedule_factor(200, 100, 0, "cosine", floor=0.1) == pytest.approx(0.1)
    assert schedule_factor(200, 100, 0, "linear") == 0.0
    assert schedule_factor(200, 100, 5, "constant") == 1.0


def test_a_whole_number_of_warm_up_is_steps_however_a_parser_reads_it() -> None:
    for given, read in ((500, 500), (500.0, 500), (0, 0), (1, 1), (0.03, 0.03), (0.0, 0.0)):
        warmup = steps_or_share(given, "Test")
        assert (warmup, type(warmup)) == (read, type(read))
    for wrong in (-1, 1.0, 1.5):
        with pytest.raises(ValueError, match="Test: warmup must be a number of steps or a share"):
            steps_or_share(wrong, "Test")
