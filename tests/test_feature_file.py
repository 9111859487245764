from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from lit_vlm.feature_file import FeatureFile, Layout

SHAPES = {"layer_1": (4, 3), "pooled": (5,)}


def layout(dtype: torch.dtype = torch.float32, rows: int = 6) -> Layout:
    return Layout(rows, SHAPES, dtype, {"grid": "[2, 2]", "images": '["é.png"]'})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_reads_what_was_written_row_by_row(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "new" / "features.safetensors"
    expected = {name: torch.randn(6, *shape).to(dtype) for name, shape in SHAPES.items()}
    file = FeatureFile(path, layout(dtype))
    file.create()
    file.open()
    for rows in ([4, 0], [1], [5, 3, 2]):
        for name, values in expected.items():
            file.write(name, torch.tensor(rows), values[rows])
    assert not path.exists()
    file.finish()
    found, metadata = read(path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], values)
    assert metadata == {"grid": "[2, 2]", "images": '["é.png"]'}


def test_several_writers_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    first, second = FeatureFile(path, layout()), FeatureFile(path, layout())
    first.create()
    for number, file in enumerate((first, second), start=1):
        file.open()
        rows = torch.arange(number - 1, 6, 2)
        file.write("pooled", rows, torch.full((3, 5), float(number)))
    first.finish()
    found, _ = read(path)
    assert found["pooled"][:, 0].tolist() == [1, 2, 1, 2, 1, 2]
    assert not found["layer_1"].any()


def test_what_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    file = FeatureFile(tmp_path / "features.safetensors", layout())
    file.create()
    file.discard()
    file.discard()
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    path.write_text("earlier")
    file = FeatureFile(path, layout())
    file.create()
    assert path.read_text() == "earlier"
    file.open()
    file.finish()
    found, _ = read(path)
    assert found["layer_1"].shape == (6, 4, 3)
