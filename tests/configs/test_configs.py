import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

from lit_vlm.cli import LitVLMCLI
from lit_vlm.config_files import CONFIGS, shipped_configs
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.trainable import TrainableModule

CLI = Callable[..., tuple[int, str, str]]
# The systems' are built by tests/systems at full size and run by tests/e2e at toy size.
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[LitVLMCLI]:
    """What the command line has built, without running it."""
    made: list[LitVLMCLI] = []

    def keep(cli: LitVLMCLI, subcommand: str) -> None:
        made.append(cli)

    monkeypatch.setattr(LitVLMCLI, "_run_subcommand", keep)
    return made


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with tiny stand-ins for the parts that ``real_parts`` reads."""
    folder = tmp_path / "parts"
    Dinov2Model(
        Dinov2Config(hidden_size=8, num_hidden_layers=5, num_attention_heads=2, image_size=56)
    ).save_pretrained(folder / "dinov2-small")
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=8, vocab_size=300))
    llama.save_pretrained(folder / "smollm2-135m")
    tokenizer = train_bpe(["what color is it?"], vocab_size=300)
    tokenizer.save_pretrained(folder / "smollm2-135m")
    eye = timm.create_model("tf_efficientnet_lite0")
    save_file(eye.state_dict(), folder / "efficientnet-lite0.safetensors")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_its_model_data_and_trainer(
    cli: CLI,
    built: list[LitVLMCLI],
    name: str,
    parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cli("fit", "--config", name)
    assert code == 0, err
    model: Any = built[0].model
    assert isinstance(model, TrainableModule)
    assert built[0].datamodule is not None
    assert Path(built[0].trainer.default_root_dir) == Path("runs") / name
    assert list(tmp_path.iterdir()) == [parts]


@pytest.mark.parametrize("name", shipped_configs())
def test_every_config_says_how_to_run_it(name: str) -> None:
    header = (CONFIGS / f"{name}.yaml").read_text().split("\n\n")[0]
    assert header.startswith("# ")
    assert f"--config {name}" in header


@pytest.mark.slow
def test_the_debug_config_trains_two_steps_and_tests(
    cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("easy_vqa")
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("fit", "--config", "debug")
    assert code == 0, err
    assert "accuracy" in out
    run = tmp_path / "runs/debug"
    with (run / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "1", "2"]
    assert (run / "checkpoints/best.ckpt").is_file()
    assert len((run / "predictions.jsonl").read_text().splitlines()) == 8
