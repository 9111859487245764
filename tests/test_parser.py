from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lit_vlm.parser import _as_written

CLI = Callable[..., tuple[int, str, str]]
CLASS = "must be a class of lit-vlm or a dotted path such as my_project.MyClass, got"


def mistake(cli: CLI, *words: object) -> str:
    """Run ``fit``; return the one line that it fails with."""
    code, out, err = cli("fit", *words)
    assert (code, out) == (2, "")
    line, hint = err.splitlines()
    assert hint == "  (lit-vlm fit --help lists the options, --debug shows where this came from)"
    return line.removeprefix("lit-vlm: config error").removeprefix(" ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--trainer.max_epoch=3",
            ": unknown option --trainer.max_epoch. Did you mean: trainer.max_epochs, "
            "trainer.min_epochs, trainer.max_steps?",
        ),
        ("--confg x", ": unknown option --confg. Did you mean: config?"),
        ("stray", ": each value must follow an option (--name value), got 'stray' alone."),
        (
            "--model.learning_rat 3",
            "at model: unknown option 'learning_rat' for lit_vlm.VisionLanguageModel. Did you "
            "mean: learning_rate, min_learning_rate?",
        ),
        (
            "--model.connector.dept 3",
            "at model.connector: unknown option 'dept' for lit_vlm.connectors.MLPConnector. Did "
            "you mean: depth?",
        ),
        (
            "--model.connector.in_dim 3",
            "at model.connector: 'in_dim' of lit_vlm.connectors.MLPConnector follows from the "
            "other parts. Leave it out.",
        ),
        (
            "--model.connector.x 3",
            "at model.connector: unknown option 'x' for lit_vlm.connectors.MLPConnector. Accepted: "
            "activation, depth, pretrained, width.",
        ),
        (
            "--data.train.pth x",
            "at data.train: unknown option 'pth' for lit_vlm.data.JSONConversations. Did you mean: "
            "path?",
        ),
        (  # the value could name a class
            "--data.train.pth json.csv",
            "at data.train: unknown option 'pth' for lit_vlm.data.JSONConversations. Did you mean: "
            "path?",
        ),
    ],
)
def test_names_the_option_that_was_meant(
    cli: CLI, cli_folder: Path, words: str, message: str
) -> None:
    found = mistake(cli, "--config", cli_folder / "tiny.yaml", *words.split())
    assert found.removeprefix(":").strip() == message.removeprefix(":").strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--model.connector LinearConector",
            f"at model.connector: {CLASS} 'LinearConector'. Did you mean: LinearConnector",
        ),
        (
            "--model VisionLanguagModel",
            f"at model: {CLASS} 'VisionLanguagModel'. Did you mean: Vision",
        ),
        (
            "--data ConversationData",
            f"at data: {CLASS} 'ConversationData'. Did you mean: Conversat",
        ),
        ("--data.train EasyVQ", f"at data.train: {CLASS} 'EasyVQ'. Did you mean: EasyVQA"),
        (
            "--trainer.callbacks Freez",
            f"at trainer.callbacks: {CLASS} 'Freez'. Did you mean: Freeze?",
        ),
        (
            "--model.connector lit_vlm.connectors.LinearConector",
            "at model.connector: there is no 'LinearConector' in lit_vlm.connectors. Did you mean: "
            "LinearConnector",
        ),
        (
            "--model.connector lit_vlm.conectors.LinearConnector",
            "at model.connector: there is no 'conectors' in lit_vlm. Did you mean: connectors",
        ),
        (
            "--model.connector my_projct.MyConnector",
            "at model.connector: the module 'my_projct' must be importable from this folder or be "
            "installed, got neither.",
        ),
        ("--data.train json.csv", "at data.train: there is no 'csv' in json."),
        ("--model.connector PickLevel", "at model.connector: must be a Connector, got PickLevel."),
        (
            "--model.encoder torch.nn.Linear",
            "at model.encoder: must be a VisionEncoder, got torch.nn",
        ),
        (
            "--data.train Plain",
            "at data.train: must be a ConversationSource, got Plain. Accepted: B",
        ),
    ],
)
def test_names_the_class_that_was_meant_or_fits(
    cli: CLI, cli_folder: Path, words: str, message: str
) -> None:
    assert mistake(cli, "--config", cli_folder / "tiny.yaml", *words.split()).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--trainer.max_epochs three",
            "at trainer.max_epochs: must be a whole number, got 'three'.",
        ),
        ("--model.learning_rate fast", "at model.learning_rate: must be a number, got 'fast'."),
        (
            "--model.connector.depth two",
            "at model.connector.depth: must be a whole number, got 'two'.",
        ),
        ("--model.encoder.layers three", "at model.encoder.layers: must be a list, got 'three'."),
        (
            "--model.encoder.mean [0.5,0.5]",
            "at model.encoder.mean: must be a list of 3, got '[0.5, 0.5]'.",
        ),
        (
            "--model.schedule cosin",
            "at model.schedule: must be one of cosine, linear, constant, got 'cosin'. Did you "
            "mean: cosine?",
        ),
        (
            "--data.probes [shufled]",
            "at data.probes: must be one of real, shuffled, blank, got 'shufled'. Did you mean: "
            "shuffled?",
        ),
        (
            "--seed_everything x",
            "at seed_everything: must be true or false or a whole number, got 'x'.",
        ),
    ],
)
def test_says_what_kind_of_value_is_wanted(
    cli: CLI, cli_folder: Path, words: str, message: str
) -> None:
    assert mistake(cli, "--config", cli_folder / "tiny.yaml", *words.split()) == message


def test_suggests_one_of_many_choices(cli: CLI, cli_folder: Path) -> None:
    words = ("--trainer.precision", "bf17")
    message = mistake(cli, "--config", cli_folder / "tiny.yaml", *words)
    assert message.endswith("got 'bf17'. Did you mean: bf16?")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "max_epochs",
            "max_epoch",
            ": unknown key 'trainer.max_epoch'. Did you mean: trainer.max_ep",
        ),
        (
            "max_epochs: 2",
            "max_epochs: three",
            "at trainer.max_epochs: must be a whole number, got",
        ),
        ("\nmodel:", "\nmodle:", "in typo.yaml: unknown key 'modle'. Did you mean: model?"),
        (
            "\nmodel:",
            "\nmodle: {}\nmodel:",
            "in typo.yaml: unknown key 'modle'. Did you mean: model?",
        ),
        (
            "TimmEncoder",
            "TimEncoder",
            f"at model.encoder: {CLASS} 'TimEncoder'. Did you mean: Timm",
        ),
        (
            "image_size",
            "image_siz",
            "at model.encoder: unknown option 'image_siz' for lit_vlm.encod",
        ),
        (
            "batch_size",
            "batchsize",
            "at data: unknown option 'batchsize' for lit_vlm.data.Conversa",
        ),
        ("\ndata:", "\nvars:", ": data must be given, in a config (--config) or by an option."),
        (
            "prompt: Plain",
            "prompt: TimmEncoder",
            "at model.prompt: must be a PromptFormat, got TimmEncoder. Accepted: ChatTemplate, LL",
        ),
    ],
)
def test_names_the_mistake_in_a_config(
    cli: CLI, cli_folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = (cli_folder / "tiny.yaml").read_text()
    assert old in text
    path = tmp_path / "typo.yaml"
    path.write_text(text.replace(old, new, 1))
    assert mistake(cli, "--config", path).startswith(message)


def test_names_an_argument_that_is_missing(cli: CLI, cli_folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((cli_folder / "tiny.yaml").read_text())
    del content["model"]["init_args"]["encoder"]
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(content))
    assert mistake(cli, "--config", tmp_path / "less.yaml") == (
        "at model: encoder must be given, in a config (--config) or by an option."
    )


def test_asks_for_model_and_data_if_there_is_no_config(cli: CLI) -> None:
    assert "data and model must be given" in mistake(cli)


def test_explains_a_misspelt_callback_and_its_options(
    cli: CLI, cli_folder: Path, tmp_path: Path
) -> None:
    callbacks = [{"class_path": "Freeze", "init_args": {"part": ["encoder"]}}]
    path = tmp_path / "callbacks.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    message = mistake(cli, "--config", cli_folder / "tiny.yaml", "--config", path)
    assert message == (
        "at trainer.callbacks: unknown option 'part' for lit_vlm.callbacks.Freeze. Did you mean: "
        "parts?"
    )


@pytest.mark.parametrize("option", ["mean", "pretrained"])
def test_null_is_no_text_for_an_argument_of_a_part(cli: CLI, cli_folder: Path, option: str) -> None:
    words = ("--config", cli_folder / "tiny.yaml", f"--model.encoder.{option}", "null")
    code, out, err = cli("fit", *words, "--print_config")
    assert code == 0, err
    assert yaml.safe_load(out)["model"]["init_args"]["encoder"]["init_args"][option] is None


def test_options_without_a_class_are_told_as_a_dictionary() -> None:
    text = "must be a list, got \"Namespace(args=Namespace(path='a(b).jsonl'), steps=3)\"."
    assert _as_written(text) == "must be a list, got \"{args: {path: 'a(b).jsonl'}, steps: 3}\"."
    assert _as_written("must be a list, got 'x=(1)'.") == "must be a list, got 'x=(1)'."
