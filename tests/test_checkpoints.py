import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_vlm.checkpoints import data_config, load_model, model_config, read_checkpoint
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.model import VisionLanguageModel


class Unknown:
    """What weights_only refuses to load."""


@pytest.fixture
def content(finished_run: Path) -> dict[str, Any]:
    loaded = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    assert isinstance(loaded, dict)
    return loaded


def test_rebuilds_the_model_in_another_folder(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = finished_run / "checkpoints/last.ckpt"
    model = load_model(path)
    assert isinstance(model, VisionLanguageModel)
    stored = read_checkpoint(path)["state_dict"]
    assert_close(model.state_dict(), stored)
    picture = ImageContent(finished_run.parent / "val-0.png")
    dialogue = Conversation("chat", (Turn("user", (picture, "what color is it?")),))
    assert len(model.eval().respond([dialogue])) == 1


def test_knows_what_model_and_data_a_checkpoint_was_made_with(finished_run: Path) -> None:
    content = read_checkpoint(finished_run / "checkpoints/best.ckpt")
    model, data = model_config(content), data_config(content)
    assert model["class_path"] == "lit_vlm.model.VisionLanguageModel"
    connector = {
        "class_path": "lit_vlm.connectors.mlp.MLPConnector",
        "init_args": {"depth": 2, "activation": "gelu", "width": None, "pretrained": None},
    }
    assert model["init_args"]["connector"] == connector
    assert data is not None
    assert data["class_path"] == "lit_vlm.data.datamodules.ConversationDataModule"
    assert data["init_args"]["train"]["init_args"]["path"] == str(
        finished_run.parent / "train.jsonl"
    )


def test_knows_no_data_if_none_was_recorded(content: dict[str, Any]) -> None:
    del content["datamodule_hyper_parameters"]
    assert data_config(content) is None


@pytest.mark.parametrize("place", [".", "no.ckpt"])
def test_names_a_checkpoint_that_is_no_file(tmp_path: Path, place: str) -> None:
    problem = "which is a folder" if place == "." else "which does not exist"
    with pytest.raises(FileNotFoundError, match=f"must be a checkpoint file, got .*, {problem}"):
        read_checkpoint(tmp_path / place)


def test_reads_of_shards_what_is_beside_them(content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "last.ckpt"
    folder.mkdir()
    kept = {k: v for k, v in content.items() if k not in ("state_dict", "optimizer_states")}
    torch.save(kept, folder / "meta.pt")
    assert read_checkpoint(folder).keys() == kept.keys()
    message = r"last\.ckpt: must be a checkpoint file, got a folder of shards.*consolidate_.*last"
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").touch()
    with pytest.raises(ValueError, match=r"x\.ckpt: must be a whole checkpoint .* an empty file"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_refuses_a_file_that_was_cut_off(finished_run: Path, tmp_path: Path) -> None:
    whole = (finished_run / "checkpoints/last.ckpt").read_bytes()
    (tmp_path / "x.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x\.ckpt: must be a whole checkpoint .* cut off"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_refuses_a_file_with_other_objects(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": Unknown()}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="other objects than tensors and numbers"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_refuses_another_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(ValueError, match=r"x\.ckpt: must be a whole checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "other",
    [
        {"weight": torch.zeros(2)},
        {"state_dict": {}, "hyper_parameters": {"learning_rate": 0.1}},
        [1, 2],
    ],
)
def test_refuses_checkpoints_of_other_projects(tmp_path: Path, other: Any) -> None:
    torch.save(other, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"x\.ckpt: .* does not say what model it holds\. Weights"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("class_path", ["my_gone_project.Model", "lit_vlm.model.NoModel"])
def test_names_the_class_that_cannot_be_imported(
    content: dict[str, Any], tmp_path: Path, class_path: str
) -> None:
    content["hyper_parameters"]["_class_path"] = class_path
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ImportError, match=f"x.ckpt: the checkpoint's class {class_path} must be"):
        load_model(tmp_path / "x.ckpt")


def test_names_the_argument_that_the_class_no_longer_has(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["hyper_parameters"]["old_option"] = 3
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="must accept the arguments in the checkpoint.*old_option"):
        load_model(tmp_path / "x.ckpt")


def test_passes_on_what_the_constructor_says(content: dict[str, Any], tmp_path: Path) -> None:
    content["hyper_parameters"]["learning_rate"] = -1.0
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"learning_rate must be positive, got -1\.0"):
        load_model(tmp_path / "x.ckpt")
