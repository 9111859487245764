from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_vlm.conversation import BadSampleError, Conversation
from lit_vlm.model import VisionLanguageModel

CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dialogues(monkeypatch: pytest.MonkeyPatch) -> list[Conversation]:
    """Dialogues that the model was asked to continue; it answers by counting their turns."""
    seen: list[Conversation] = []

    def respond(model: VisionLanguageModel, asked: list[Conversation]) -> list[str]:
        if "too long" in asked[0].turns[-1].text:
            raise BadSampleError("a prompt must be shorter.")
        seen.extend(asked)
        return [f"answer after {len(asked[0].turns)} turns"]

    monkeypatch.setattr(VisionLanguageModel, "respond", respond)
    return seen


def test_answers_one_question_about_an_image(
    cli: CLI, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint, image = finished_run / "checkpoints/best.ckpt", finished_run.parent / "val-0.png"
    words = ["--ckpt_path", checkpoint, "--image", image, "what color is it?"]
    code, out, err = cli("chat", *words)
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert cli("chat", *words)[1] == out
    assert list(tmp_path.iterdir()) == []


def test_shows_the_images_before_the_first_question_only(
    cli: CLI, finished_run: Path, dialogues: list[Conversation]
) -> None:
    words = ["--ckpt_path", finished_run / "checkpoints/last.ckpt", "--image", "a.png"]
    code, out, _ = cli("chat", *words, "--image", "b.png", stdin="what is it?\nwhere?\n")
    assert (code, out) == (0, "> answer after 1 turns\n> answer after 3 turns\n> \n")
    assert [image.source for image in dialogues[0].images] == ["a.png", "b.png"]
    assert [turn.text for turn in dialogues[1].turns] == [
        "what is it?",
        "answer after 1 turns",
        "where?",
    ]
    assert len(dialogues[1].images) == 2


def test_reset_forgets_the_dialogue_and_shows_the_images_again(
    cli: CLI, finished_run: Path, dialogues: list[Conversation]
) -> None:
    words = ["--ckpt_path", finished_run / "checkpoints/last.ckpt", "--image", "a.png"]
    _, out, _ = cli("chat", *words, stdin="one\n/reset\ntwo\n\nnot asked\n")
    assert out == "> answer after 1 turns\n> > answer after 1 turns\n> "
    assert [len(dialogue.images) for dialogue in dialogues] == [1, 1]


def test_a_dialogue_goes_on_after_a_question_that_was_too_long(
    cli: CLI, finished_run: Path, dialogues: list[Conversation]
) -> None:
    words = ["--ckpt_path", finished_run / "checkpoints/last.ckpt"]
    code, out, err = cli("chat", *words, stdin="one\ntoo long\ntwo\n")
    assert (code, err) == (0, "a prompt must be shorter. Try /reset.\n")
    assert "answer after 3 turns" in out
    assert len(dialogues) == 2


def test_options_of_generation_reach_the_model(
    cli: CLI, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, float] = {}

    def respond(model: VisionLanguageModel, asked: list[Conversation]) -> list[str]:
        assert not model.training
        used.update({name: getattr(model, name) for name in ("max_new_tokens", "top_p")})
        used["temperature"] = model.temperature
        return ["yes"]

    monkeypatch.setattr(VisionLanguageModel, "respond", respond)
    given = ["--max_new_tokens", 5, "--temperature", 0.5, "--top_p", 0.9]
    cli("chat", "--ckpt_path", finished_run / "checkpoints/last.ckpt", *given, "hi")
    assert used == {"max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9}


@pytest.mark.parametrize(
    "form",
    [
        "--ckpt_path RUN",
        "--ckpt_path last --config RUN/config.yaml",
        "--config CONFIG --trainer.default_root_dir RUN --ckpt_path best",
    ],
)
def test_finds_the_checkpoint_of_a_run(
    cli: CLI, finished_run: Path, dialogues: list[Conversation], form: str
) -> None:
    config = str(finished_run.parent / "tiny.yaml")
    words = form.replace("RUN", str(finished_run)).replace("CONFIG", config).split()
    code, out, _ = cli("chat", *words, "hi")
    assert (code, out) == (0, "answer after 1 turns\n")


def test_a_name_needs_a_run(cli: CLI) -> None:
    code, _, err = cli("chat", "--ckpt_path", "selected", "hi")
    assert code == 2
    assert "--ckpt_path selected must come with the config of the run, got none" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "chat must know a trained model, got none. Give --ckpt_path FILE."),
        (["--ckpt_pth", "x"], "unknown option --ckpt_pth. Did you mean: --ckpt_path?"),
        (["what", "color"], "the question must be one word or in quotes, got 'color' too."),
        (["--temperature", "hot"], "--temperature: invalid float value: 'hot'"),
        (["--ckpt_path", "x", "--temperature", "-1"], "--temperature must be 0 or more, got -1.0."),
        (
            ["--ckpt_path", "x", "--top_p", "2"],
            "--top_p must be more than 0 and at most 1, got 2.0.",
        ),
        (
            ["--ckpt_path", "x", "--max_new_tokens", "0"],
            "--max_new_tokens must be at least 1, got 0.",
        ),
    ],
)
def test_explains_a_wrong_option(cli: CLI, words: list[str], problem: str) -> None:
    code, out, err = cli("chat", *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"lit-vlm: {problem}"


@pytest.mark.parametrize("content", [None, b"", b"not a picture"])
def test_names_an_image_that_cannot_be_read(
    cli: CLI, finished_run: Path, tmp_path: Path, content: bytes | None
) -> None:
    image = tmp_path / "a.png"
    if content is not None:
        image.write_bytes(content)
    checkpoint = finished_run / "checkpoints/last.ckpt"
    code, _, err = cli("chat", "--ckpt_path", checkpoint, "--image", image, "hi")
    assert code == 1
    assert str(image) in err
    assert err.count("\n") == 2


def test_refuses_a_checkpoint_of_a_part(cli: CLI, finished_run: Path, tmp_path: Path) -> None:
    content = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    content["hyper_parameters"] = {
        "_class_path": "lit_vlm.connectors.LinearConnector",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "in_dim": 2,
        "out_dim": 2,
    }
    content["state_dict"] = {"linear.weight": torch.zeros(2, 2), "linear.bias": torch.zeros(2)}
    content["part_states"] = {}
    torch.save(content, tmp_path / "x.ckpt")
    code, _, err = cli("chat", "--ckpt_path", tmp_path / "x.ckpt", "hi")
    assert code == 1
    assert "must hold a VisionLanguageModel, got LinearConnector" in err
