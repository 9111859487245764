from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lit_vlm.checkpoints import load_model
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.errors import ConfigError
from lit_vlm.model import VisionLanguageModel
from lit_vlm.model_reading import read_model
from lit_vlm.prompts import Plain
from lit_vlm.run_folder import pick_checkpoint

TinyModel = Callable[..., VisionLanguageModel]

STAGES = """
staged_freezing:
  stages:
    align: {trains: [connector], steps: 1}
    tune:
      trains: [connector, language_model]
      prompt: {class_path: Plain, init_args: {separator: " -> "}}
      resize: crop
      max_length: 99
"""


def texts() -> Iterator[str]:
    return iter(["what color is it?", "red"])


def no_texts() -> Iterator[str]:
    raise AssertionError("nothing is to be trained")


def test_a_checkpoint_reads_as_the_model_that_it_holds(
    finished_run: Path, cli_folder: Path
) -> None:
    path = pick_checkpoint(finished_run, to_go_on=False)
    model = load_model(path)
    assert isinstance(model, VisionLanguageModel)
    own = model.processor
    read = read_model(str(finished_run), [], no_texts)
    image = ImageContent(cli_folder / "val-0.png")
    turns = (Turn("user", (image, "what color?")), Turn("assistant", ("navy blue",)))
    dialogue = Conversation("1", turns)
    assert read.note == ""
    assert read.processor.encode(dialogue) == own.encode(dialogue)
    [pixels], [expected] = read.processor.pixels(dialogue), own.pixels(dialogue)
    assert pixels.equal(expected)
    assert read.processor.fill == own.fill == (128, 128, 128)


def test_a_config_takes_a_tokenizer_from_its_folder_and_no_weights(
    cli_folder: Path, tiny_model: TinyModel, tmp_path: Path
) -> None:
    tokenizer = tiny_model().processor.tokenizer
    tokenizer.save_pretrained(tmp_path / "words")
    words = ["--config", str(cli_folder / "tiny.yaml")]
    words += ["--model.language_model.tokenizer", str(tmp_path / "words")]
    words += ["--model.prompt", "VisualChat", "--model.prompt.markers", "tokens"]
    reading = read_model(None, words, no_texts)
    assert reading.note == ""
    new = reading.processor.prompt.new_tokens
    assert new
    ids = reading.processor.tokenizer.convert_tokens_to_ids(list(new))
    assert ids == list(range(len(tokenizer), len(tokenizer) + len(new)))


def test_a_stage_reads_as_its_training_does(cli_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stages.yaml").write_text(STAGES)
    words = ["--config", str(cli_folder / "tiny.yaml"), "--config", str(tmp_path / "stages.yaml")]
    reading = read_model(None, words, texts, stage="tune")
    assert reading.note.startswith("The config names no tokenizer: one was trained here")
    assert isinstance(reading.processor.prompt, Plain)
    assert reading.processor.prompt.separator == " -> "
    assert (reading.processor.resize, reading.processor.max_length) == ("crop", 99)
    with pytest.raises(ConfigError, match=r"got 'tunes'\. Did you mean: tune\?"):
        read_model(None, words, texts, stage="tunes")


def test_refuses_a_model_that_reads_no_dialogues() -> None:
    with pytest.raises(ValueError, match="must be a VisionLanguageModel, got Contrastive"):
        read_model(None, ["--config", "contrast_easy_vqa"], texts)
