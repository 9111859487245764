from pathlib import Path

import pytest
import torch

from lit_vlm.config_reader import read_fit_config
from lit_vlm.errors import ConfigError


def test_reads_what_fit_would_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    config = read_fit_config(["--config", "real_parts", "--model.learning_rate", "0.5"])
    assert config["model"]["init_args"]["learning_rate"] == 0.5
    assert config["model"]["init_args"]["min_learning_rate"] == 0.0  # a default
    assert config["trainer"]["limit_train_batches"] == 300
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())  # nor are the parts there that it names


def test_refuses_what_fit_would() -> None:
    with pytest.raises(ConfigError, match="unknown option --modle"):
        read_fit_config(["--config", "quickstart", "--modle.learning_rate", "0.5"])


def test_a_key_where_a_list_is_accepted_too_must_come_in_a_whole_dictionary() -> None:
    stages = "--staged_freezing.stages"
    words = ["--config", "llava", stages, "{one: {trains: [connector], steps: 1}}"]
    message = r"must be a list or a dictionary, .* as a whole: \.data '\{a: 1\.5, \.\.\.\}'\.$"
    with pytest.raises(ConfigError, match=message):
        read_fit_config([*words, f"{stages}.one.data.a", "1.5"])
    fit = read_fit_config([*words, f"{stages}.one.data", "{a: 1.5}"])
    assert fit["staged_freezing"]["stages"]["one"]["data"] == {"a": 1.5}
