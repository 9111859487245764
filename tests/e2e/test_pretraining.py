"""Each way of pretraining by its shipped config, and its encoder in a vision-language model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.checkpoints import read_checkpoint

CLI = Callable[..., tuple[int, str, str]]
SHORT = ("--trainer.max_steps", "4", "--test_after_fit", "false")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "figure"),
    [
        ("classify_easy_vqa", "test/top1"),
        ("contrast_easy_vqa", "test/zero_shot_top1"),
        ("distill_easy_vqa", "test/knn_20_pooled"),
    ],
)
def test_is_tested_by_itself_and_gives_its_encoder_to_a_model(
    config: str, figure: str, cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("easy_vqa")
    monkeypatch.chdir(tmp_path)
    code, _, err = cli("fit", "--config", config, *SHORT)
    assert code == 0, err
    pretrained = tmp_path / "runs" / config / "checkpoints/last.ckpt"

    code, out, err = cli("test", "--config", config, "--ckpt_path", "last")
    assert code == 0, err
    assert figure in out
    assert (tmp_path / "runs" / config / "evaluation-last.json").is_file()

    words = ("--model.encoder", "CLIPEncoder", "--model.encoder.pretrained", pretrained)
    frozen = ("--staged_freezing.stages.frozen.trains", "[connector, language_model]")
    code, _, err = cli("fit", "--config", "quickstart", *words, *frozen, *SHORT)
    assert code == 0, err
    made = read_checkpoint(pretrained)["state_dict"]
    model = read_checkpoint(tmp_path / "runs/quickstart/checkpoints/last.ckpt")["state_dict"]
    taken = [name for name in model if name.startswith("encoder.network.")]
    assert len(taken) > 40
    assert all(model[name].equal(made[name]) for name in taken)
