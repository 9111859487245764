import json
from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]

LLAMA = (
    "{model_type: llama, vocab_size: 32000, hidden_size: 4096, intermediate_size: 11008, "
    "num_hidden_layers: 32, num_attention_heads: 32}"
)
PARTS = (
    *("--model.encoder.pretrained", "hub"),
    *("--model.language_model.pretrained", "nobody/vicuna"),
    *("--model.language_model.config", LLAMA),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def cells(text: str) -> list[list[str]]:
    lines = text.replace("┃", "│").splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_prints_parts_pictures_and_memory_of_a_model_that_is_nowhere(cli: CLI) -> None:
    words = ("--devices", "8", "--trainer.precision", "bf16-mixed")
    code, out, err = cli("plan", "--config", "llava", *PARTS, *words)
    assert (code, err) == (0, "")
    rows = cells(out)
    # class, parameters, those that train in the two stages
    assert ["connector", "MLPConnector", "19,931,136", "all", "all"] in rows
    assert ["language_model", "CausalLanguageModel", "6,738,415,616", "-", "all"] in rows
    assert ["sum", "", "6,778,107,392", "19.93 M", "6.76 B"] in rows
    assert "Beside the parameters there are 134 numbers in buffers." in out
    assert ["align", "56 x 56", "16", "2,048", "128"] in rows
    assert "GiB of each of 8 processes, bf16-mixed" in out
    # 6,778,107,392 weights in 4 bytes, 6,758,346,752 of them with gradients and two averages
    assert ["tune", "ddp", "25.25", "25.18", "50.35", "100.78"] in rows
    # a half of that, then 8 shares of gradients and of 12 bytes
    assert ["", "ZeRO 2", "12.63", "1.57", "9.44", "23.64"] in rows
    assert "Not included: activations" in out


def test_writes_all_figures(cli: CLI, folder: Path) -> None:
    code, out, err = cli("plan", "--config", "quickstart", "--output", "plans/quick.json")
    assert (code, err) == (0, "")
    assert out.endswith("The figures are in plans/quick.json\n")
    assert "MiB of 1 process, 32-true" in out
    written = json.loads((folder / "plans/quick.json").read_text())
    assert (written["parameters"], written["ranks"]) == (1_064_720, 1)
    assert [path.name for path in folder.rglob("*.*")] == ["quick.json"]


@pytest.mark.parametrize("words", [[], ["--help"], ["--config", "nowhere", "-h"]])
def test_help_says_what_it_prints(cli: CLI, words: list[str]) -> None:
    code, out, err = cli("plan", *words)
    assert (code, err) == (0, "")
    assert out.startswith("usage: lit-vlm plan --config FILE")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "llava"], "model.encoder: the sizes of DINOv2Encoder must be known without"),
        (["--config", "llva"], "--config must be a file or a shipped experiment"),
        (["--config", "quickstart", "--device", "3"], "unknown option --device. Did you mean:"),
        (["--config", "quickstart", "--devices", "0"], "--devices must be at least 1, got 0"),
        (["--config", "quickstart", "--output", "a.csv"], "--output must end in .json, got a.csv"),
        (["--config", "quickstart", "--devices", "many"], "--devices must be a number"),
    ],
)
def test_says_what_is_wrong(cli: CLI, words: list[str], message: str) -> None:
    code, out, err = cli("plan", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
