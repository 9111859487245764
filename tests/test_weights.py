import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lit_vlm.weights import read_some_weights, read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def check(found: dict[str, Tensor]) -> None:
    assert set(found) == set(WEIGHTS)
    for name, value in WEIGHTS.items():
        assert torch.equal(found[name], value)


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "any.safetensors")
    check(read_weights(tmp_path / "any.safetensors"))


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt"])
@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_reads_torch_files_bare_or_wrapped(tmp_path: Path, suffix: str, key: str | None) -> None:
    path = tmp_path / f"any.{suffix}"
    content: dict[str, Any] = WEIGHTS if key is None else {key: WEIGHTS, "epoch": 3}
    torch.save(content, path)
    check(read_weights(str(path)))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.pth", "model.pth"])
def test_reads_the_usual_file_of_a_folder(tmp_path: Path, name: str) -> None:
    torch.save(WEIGHTS, tmp_path / name)
    check(read_weights(tmp_path))


def test_prefers_safetensors_in_a_folder(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    check(read_weights(tmp_path))


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(OSError, match=r"must hold weights \(model.safetensors, .*found none"):
        read_weights(tmp_path)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(OSError, match=name):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"step": 1}}], ids=str)
def test_refuses_a_file_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: must hold a state dict"):
        read_weights(tmp_path / "other.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_reads_some_weights_without_their_prefix(tmp_path: Path, name: str) -> None:
    weights = {**{f"part.{key}": value for key, value in WEIGHTS.items()}, "b": torch.ones(1)}
    save = save_file if name.endswith("safetensors") else torch.save
    save(weights, tmp_path / name)
    check(read_some_weights(tmp_path, ["part."]))
    check(read_some_weights(str(tmp_path), ["other.", "part."]))
    assert read_some_weights(tmp_path, ["other."]) == {}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_reads_some_weights_of_the_files_that_hold_them_only(tmp_path: Path, name: str) -> None:
    save = save_file if name.endswith("safetensors") else torch.save
    places = {"part.a.weight": "1", "part.a.bias": "2", "b": "3"}
    stem, suffix = name.split(".")
    index = {key: f"{stem}-{place}.{suffix}" for key, place in places.items()}
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": index}))
    for key in ("part.a.weight", "part.a.bias"):  # the third file is not there
        save({key: WEIGHTS[key.removeprefix("part.")]}, tmp_path / index[key])
    check(read_some_weights(tmp_path, ["part."]))
    with pytest.raises(OSError, match=f"{stem}-3.{suffix}"):
        read_some_weights(tmp_path, ["b"])


def test_a_folder_without_weights_has_none_to_read_some_of(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="must hold weights as transformers writes them, found none"):
        read_some_weights(tmp_path, ["part."])
