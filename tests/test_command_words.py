import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.command_words import prepare_words
from lit_vlm.config_files import CONFIGS
from lit_vlm.errors import ConfigError


def known(words: list[str]) -> dict[str, Any]:
    """Return what was put before the user's own words."""
    assert words[0] == "--config"
    content = json.loads(words[1])
    assert isinstance(content, dict)
    return content


@pytest.fixture
def checkpoint(finished_run: Path) -> str:
    return str(finished_run / "checkpoints/best.ckpt")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.parametrize("words", [["--config", "quickstart"], ["-c", "quickstart"]])
def test_replaces_the_name_of_a_config_by_its_path(words: list[str]) -> None:
    assert prepare_words("fit", words) == [words[0], str(CONFIGS / "quickstart.yaml")]


@pytest.mark.parametrize("word", ["--config=quickstart", "-c=quickstart"])
def test_accepts_an_equals_sign(word: str) -> None:
    path = str(CONFIGS / "quickstart.yaml")
    assert prepare_words("fit", [word]) == [word.partition("=")[0], path]


def test_keeps_the_order_of_several_configs(cli_folder: Path) -> None:
    tiny = str(cli_folder / "tiny.yaml")
    words = prepare_words("fit", ["--config", "quickstart", "--a=1", "-c", tiny, "--b", "2"])
    assert words == [
        "--config", str(CONFIGS / "quickstart.yaml"), "--a=1", "-c", tiny, "--b", "2",
    ]  # fmt: skip


def test_leaves_words_after_other_options_alone() -> None:
    assert prepare_words("fit", ["--trainer.logger", "quickstart"]) == [
        "--trainer.logger",
        "quickstart",
    ]


def test_a_config_without_a_value_is_left_to_the_parser() -> None:
    assert prepare_words("fit", ["--config"]) == ["--config"]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("form", ["--ckpt_path {}", "--ckpt_path={}"])
def test_a_checkpoint_supplies_model_and_data(checkpoint: str, command: str, form: str) -> None:
    words = prepare_words(command, form.format(checkpoint).split())
    evaluated = set() if command == "predict" else {"feature_evaluation"}
    assert known(words).keys() == {"model", "data"} | evaluated
    assert words[2:] == ["--ckpt_path", checkpoint]


def test_fit_takes_model_and_data_from_the_config_alone(checkpoint: str, cli_folder: Path) -> None:
    words = ["--config", str(cli_folder / "tiny.yaml"), "--ckpt_path", checkpoint]
    assert prepare_words("fit", words) == words


def test_a_config_that_names_model_and_data_replaces_the_checkpoints(
    checkpoint: str, cli_folder: Path
) -> None:
    words = ["--config", str(cli_folder / "tiny.yaml"), "--ckpt_path", checkpoint]
    assert prepare_words("predict", words) == words
    assert known(prepare_words("test", words)).keys() == {"feature_evaluation"}


def test_a_config_without_a_model_leaves_it_to_the_checkpoint(
    checkpoint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("trainer: {accelerator: cpu}\ndata: EasyVQA\nmodel:\n")
    words = prepare_words("test", ["--config", str(path), "--ckpt_path", checkpoint])
    assert known(words).keys() == {"model", "feature_evaluation"}


def test_a_model_on_the_command_line_replaces_the_checkpoints(checkpoint: str) -> None:
    words = prepare_words("test", ["--model", "my.Model", "--ckpt_path", checkpoint])
    assert known(words).keys() == {"data", "feature_evaluation"}


def test_the_last_checkpoint_named_counts(checkpoint: str) -> None:
    words = prepare_words("test", ["--ckpt_path", "no.ckpt", "--ckpt_path", checkpoint])
    assert known(words).keys() == {"model", "data", "feature_evaluation"}


RUNS_OWN = """
vars: {k: 5}
feature_evaluation:
  data: {class_path: ImageClassificationDataModule, init_args: {val: 0.1}}
  knn: ["${vars.k}"]
  every_n_validations: 0
"""


def test_the_runs_own_config_says_how_features_are_evaluated(run: Path) -> None:
    (run / "config.yaml").write_text(RUNS_OWN)
    asked = ["--ckpt_path", str(run / "checkpoints/best.ckpt")]
    group = known(prepare_words("test", asked))["feature_evaluation"]
    assert group["data"]["init_args"] == {"val": 0.1}
    assert (group["knn"], group["every_n_validations"]) == ([5], 0)
    # A run that is validated is to be evaluated, however seldom it was while it trained.
    group = known(prepare_words("validate", asked))["feature_evaluation"]
    assert group.keys() == {"data", "knn"}
    option = ["--feature_evaluation.knn", "[7]"]
    assert "feature_evaluation" in known(prepare_words("test", [*asked, *option]))


@pytest.mark.parametrize("by", ["option", "config"])
def test_a_given_feature_evaluation_replaces_the_runs(run: Path, tmp_path: Path, by: str) -> None:
    (run / "config.yaml").write_text(RUNS_OWN)
    (tmp_path / "x.yaml").write_text("feature_evaluation: {knn: [7]}\n")
    given = {"option": ["--feature_evaluation={}"], "config": ["-c", str(tmp_path / "x.yaml")]}
    words = ["--ckpt_path", str(run / "checkpoints/best.ckpt"), *given[by]]
    assert known(prepare_words("test", words)).keys() == {"model", "data"}


def test_a_checkpoint_without_its_run_supplies_model_and_data_alone(
    run: Path, tmp_path: Path
) -> None:
    (run / "config.yaml").unlink()
    words = prepare_words("test", ["--ckpt_path", str(run / "checkpoints/best.ckpt")])
    assert known(words).keys() == {"model", "data"}


@pytest.mark.parametrize(
    ("command", "stage"),
    [("fit", "train"), ("validate", "val"), ("test", "test"), ("predict", "predict")],
)
def test_a_file_of_dialogues_becomes_the_source_of_the_command(
    checkpoint: str, cli_folder: Path, command: str, stage: str
) -> None:
    file = str(cli_folder / "val.jsonl")
    config = ["--config", str(cli_folder / "tiny.yaml")]
    words = prepare_words(command, [*config, "--data", file, "--ckpt_path", checkpoint])
    if command in ("validate", "test"):
        assert known(words).keys() == {"feature_evaluation"}
        del words[:2]
    assert words[:3] == [*config, f"--data.{stage}"]
    assert json.loads(words[3]) == {
        "class_path": "lit_vlm.data.JSONConversations",
        "init_args": {"path": file, "image_root": None},  # not that of the replaced source
    }
    assert words[4:] == ["--ckpt_path", checkpoint]


def test_options_of_a_source_apply_to_the_file_wherever_they_stand(cli_folder: Path) -> None:
    config, file = ["-c", str(cli_folder / "tiny.yaml")], str(cli_folder / "val.jsonl")
    words = prepare_words("fit", [*config, "--data.train.image_root", "x", "--data", file])
    assert (words[2], words[4:]) == ("--data.train", ["--data.train.image_root", "x"])


def test_a_file_of_dialogues_needs_no_other_data(cli_folder: Path) -> None:
    words = prepare_words("fit", ["--model", "my.Model", "--data", str(cli_folder / "val.jsonl")])
    assert known(words) == {"data": {"class_path": "lit_vlm.data.ConversationDataModule"}}
    assert "--data.train" in words


def test_names_a_file_of_dialogues_that_is_missing() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"--data must be a file of dialogues, got no\.json:"
    ):
        prepare_words("fit", ["--data", "no.json"])


def test_refuses_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.touch()
    with pytest.raises(ConfigError, match=r"must be a \.jsonl or \.json file or a class, or"):
        prepare_words("fit", ["--data", str(path)])


@pytest.mark.parametrize("name", ["pictures", "pictures/red.png"])
def test_predict_takes_pictures(pictures: dict[str, Path], name: str) -> None:
    place = pictures["red"].parent.parent / name
    words = prepare_words("predict", ["--model", "CLIPEncoder", "--data", str(place)])
    assert words[0] == "--data"
    assert json.loads(words[1]) == {
        "class_path": "lit_vlm.data.ImageDataModule",
        "init_args": {"images": str(place)},
    }
    assert words[2:] == ["--model", "CLIPEncoder"]


def test_pictures_replace_the_data_of_a_config_and_keep_options(
    cli_folder: Path, tmp_path: Path
) -> None:
    config = ["--config", str(cli_folder / "tiny.yaml")]
    options = ["--data.batch_size", "2"]
    words = prepare_words("predict", [*config, *options, "--data", str(tmp_path)])
    assert words[:3] == [*config, "--data"]
    assert words[4:] == options


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_only_predict_takes_pictures(command: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or, to predict an encoder's features, a folder of"):
        prepare_words(command, ["--model", "CLIPEncoder", "--data", str(tmp_path)])


def test_names_a_folder_that_is_missing() -> None:
    with pytest.raises(FileNotFoundError, match="must be a file or a folder, got no/pictures"):
        prepare_words("predict", ["--model", "CLIPEncoder", "--data", "no/pictures"])


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_asks_for_a_trained_model(command: str) -> None:
    with pytest.raises(ConfigError, match=f"{command} must know a trained model, got none"):
        prepare_words(command, [])


@pytest.mark.parametrize("name", ["last", "best", "selected", "stage-align"])
def test_names_of_checkpoints_need_the_config_of_the_run(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--ckpt_path {name} must come with the config"):
        prepare_words("test", ["--ckpt_path", name])


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_run_folder_becomes_the_checkpoint_to_use(finished_run: Path, command: str) -> None:
    words = prepare_words(command, ["--model", "my.Model", f"--ckpt_path={finished_run}"])
    name = "last" if command == "fit" else "best"
    assert words[-2:] == ["--ckpt_path", str(finished_run / f"checkpoints/{name}.ckpt")]


def test_a_name_and_a_run_folder_supply_model_and_data(finished_run: Path) -> None:
    words = ["--trainer.default_root_dir", str(finished_run), "--ckpt_path", "last"]
    found = known(prepare_words("test", words))
    assert found.keys() == {"model", "data", "feature_evaluation"}


def test_help_needs_no_checkpoint() -> None:
    assert prepare_words("test", ["--help"]) == ["--help"]
