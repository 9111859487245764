import pytest
import torch
from torch import nn

from lit_vlm.part_names import find_parts, is_within


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Module()
        self.network.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(12))
        self.network.norm = nn.LayerNorm(2)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Tower()
        self.other = Tower()
        self.head = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("head", ["head"]),
        ("scale", ["scale"]),
        ("head.bias", ["head.bias"]),
        ("encoder.network.blocks.3", ["encoder.network.blocks.3"]),
        ("encoder.network.blocks.10-", [f"encoder.network.blocks.{i}" for i in (10, 11)]),
        ("encoder.blocks.1-2", [f"encoder.network.blocks.{i}" for i in (1, 2)]),
        ("encoder.norm", ["encoder.network.norm"]),
        ("*.network.norm", ["encoder.network.norm", "other.network.norm"]),
        ("encoder.blocks.?", [f"encoder.network.blocks.{i}" for i in range(10)]),
        ("other.blocks.11.weight", ["other.network.blocks.11.weight"]),
    ],
)
def test_finds_names_ranges_and_wildcards(pattern: str, found: list[str]) -> None:
    assert find_parts(Model(), [pattern], "Test: parts") == found


def test_what_is_inside_another_result_is_not_listed_again() -> None:
    patterns = ["head.bias", "encoder.blocks.1", "head", "encoder"]
    assert find_parts(Model(), patterns, "Test: parts") == ["encoder", "head"]


def test_levels_are_left_out_only_where_no_name_fits_exactly() -> None:
    model = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(1, 1)})})
    model["a"]["c"] = nn.ModuleDict({"b": nn.Linear(1, 1)})  # type: ignore[operator]
    assert find_parts(model, ["a.b"], "Test: parts") == ["a.b"]


@pytest.mark.parametrize("pattern", ["hed", "", "encoder.blocks.12-", "encoder.", "blocks"])
def test_says_what_there_is_when_nothing_fits(pattern: str) -> None:
    with pytest.raises(
        ValueError, match=r"Test: parts must name modules of Model \(encoder, other"
    ):
        find_parts(Model(), ["head", pattern], "Test: parts")


def test_names_what_may_have_been_meant() -> None:
    with pytest.raises(ValueError, match=r"got 'haed'\. Did you mean: head\?"):
        find_parts(Model(), ["haed"], "Test: parts")


def test_a_name_is_within_itself_and_its_owners_but_not_within_a_like_one() -> None:
    assert is_within("a.b", ["a"])
    assert is_within("a", ["a"])
    assert not is_within("ab", ["a"])
    assert not is_within("a", ["a.b"])


def test_says_how_blocks_are_called_where_they_are_not_found() -> None:
    with pytest.raises(ValueError, match=r"Numbered there: encoder\.network\.blocks\.0-11\."):
        find_parts(Model(), ["encoder.layers.3-"], "Test: parts")
