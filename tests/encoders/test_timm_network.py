from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from lit_vlm.encoders.timm_network import create_network, is_local, tagged_names


def create(name: str, image_size: int | None = None, **config: Any) -> Any:
    return create_network("Someone", name, None, image_size, config)


def test_makes_a_network_without_its_classifier() -> None:
    network = create("test_resnet")
    assert network.num_classes == 0
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape[1] == network.num_features


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_makes_positions_for_an_image_size_where_there_are_any(name: str) -> None:
    network = create(name, image_size=64)
    assert network(torch.zeros(1, 3, 64, 64)).ndim == 2


@pytest.mark.parametrize(
    "name",
    [
        "vgg11",
        "test_resnet",
        "test_convnext",
        "test_efficientnet",
        "test_vit",
        "test_maxvit",
        "swin_tiny_patch4_window7_224",
        "eva02_tiny_patch14_224",
        "beit_base_patch16_224",
    ],
)
@pytest.mark.parametrize("image_size", [None, 64])
def test_refuses_a_key_that_the_network_does_not_take(name: str, image_size: int | None) -> None:
    with pytest.raises(ValueError, match=f"Someone: config does not fit {name}: .*'depht'"):
        create(name, image_size, depht=2)


def test_reads_a_local_file_only_if_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert not is_local(path)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    assert is_local(path)
    assert is_local(str(path))
    assert not is_local("hub")
    assert not is_local(None)


def test_says_that_an_architecture_has_no_weights_to_download() -> None:
    with pytest.raises(ValueError, match="weights 'hub' .* No pretrained weights exist"):
        create_network("Someone", "test_mambaout", "hub", None, {})


def test_names_the_weights_of_an_architecture() -> None:
    assert tagged_names("test_resnet") == ["test_resnet.r160_in1k"]
    assert tagged_names("test_resnet.other") == ["test_resnet.r160_in1k"]
    assert tagged_names("test_mambaout") == []
