from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch.testing import assert_close

from lit_vlm import VisionLanguageModel
from lit_vlm.connectors import LinearConnector
from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data import Batch, ConversationDataModule, JSONConversations
from lit_vlm.prompts import Plain

MakeModel = Callable[..., VisionLanguageModel]
MakeData = Callable[[list[bool]], Path]


def first_batch(model: VisionLanguageModel, path: Path, stage: str = "test") -> Batch:
    source: Any = {stage: JSONConversations(path)}
    data = ConversationDataModule(**source, batch_size=32, probes=())
    data.processor = model.processor
    data.setup(stage)
    loader: Any = getattr(data, f"{stage}_dataloader")()
    return next(iter(loader[0] if isinstance(loader, list) else loader))


def ask(question: str, *pictures: ImageContent) -> Conversation:
    return Conversation("asked", (Turn("user", (*pictures, question)),))


def test_widths_and_token_counts_are_derived(tiny_model: MakeModel) -> None:
    model = tiny_model(connector=LinearConnector)
    assert isinstance(model.connector, LinearConnector)
    assert model.connector.in_dim == model.encoder.dims[-1]
    assert model.connector.out_dim == model.language_model.dim
    assert model.processor.tokens_per_image == model.encoder.num_tokens


def test_every_parameter_that_trains_gets_a_gradient(
    tiny_model: MakeModel, color_questions: MakeData
) -> None:
    model = tiny_model()
    model(first_batch(model, color_questions([True, False, True]))).total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_a_sample_does_not_depend_on_its_batch(
    tiny_model: MakeModel, color_questions: MakeData
) -> None:
    model = tiny_model().eval()
    path = color_questions([True, False, True, True])
    batch = first_batch(model, path)
    texts = model.generate(batch)
    alone = [model.respond([reference.dialogue])[0] for reference in batch.references]
    assert texts == alone
    losses = [
        model(first_batch(model, color_questions([True, False, True, True][: k + 1]))).total
        for k in range(4)
    ]
    assert_close(losses[-1], model(batch).total)
    assert losses == sorted(losses)


def test_the_answer_depends_on_the_picture(
    tiny_model: MakeModel, color_questions: MakeData
) -> None:
    model = tiny_model()
    batch = first_batch(model, color_questions([True]))
    logits = model.logits(batch)
    blank = Batch(torch.zeros_like(batch.images), batch.inputs, batch.prompts, batch.references)
    assert not torch.allclose(logits, model.logits(blank))


def test_responds_to_paths_and_pictures_alike(
    tiny_model: MakeModel, pictures: dict[str, Path]
) -> None:
    model = tiny_model()
    with Image.open(pictures["red"]) as picture:
        in_memory = ImageContent(picture.copy())
    on_disk = ImageContent(pictures["red"])
    asked = [ask("color?", on_disk), ask("color?", in_memory)]
    first, second = model.respond(asked)
    assert first == second
    assert model.training, "responding must leave the mode as it was"


def test_several_pictures_stand_where_they_were_put(
    tiny_model: MakeModel, pictures: dict[str, Path]
) -> None:
    model = tiny_model()
    red, white = ImageContent(pictures["red"]), ImageContent(pictures["white"])
    contents: list[tuple[str | ImageContent, ...]] = [
        (red, "a", white, "b"),
        ("a", red, "b", white),
    ]
    encoded = [
        model.processor.encode_prompt(Conversation("x", (Turn("user", content),)))
        for content in contents
    ]
    m = model.processor.tokens_per_image
    assert [sum(e.is_visual) for e in encoded] == [2 * m, 2 * m]
    assert encoded[0].is_visual[:m] == [True] * m
    assert encoded[1].is_visual[0] is False
    pixels = model.processor.pixels(ask("?", red, white))
    assert pixels[0][:, 0, 0].tolist() == [255, 0, 0]
    assert pixels[1][:, 0, 0].tolist() == [255, 255, 255]


def test_a_checkpoint_is_enough(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    path = color_questions([True] * 4)
    model = tiny_model(connector=LinearConnector, temperature=0.0, resize="crop")
    data = ConversationDataModule(train=JSONConversations(path), batch_size=4)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        log_every_n_steps=1,
    )
    trainer.fit(model, data)
    for generation in ("first", "second"):
        trainer.save_checkpoint(tmp_path / f"{generation}.ckpt", weights_only=False)
        loaded = VisionLanguageModel.load_from_checkpoint(
            tmp_path / f"{generation}.ckpt", weights_only=True
        )
        assert loaded.rebuild_config() == model.rebuild_config()
        assert isinstance(loaded.connector, LinearConnector)
        assert isinstance(loaded.prompt, Plain)
        batch = first_batch(model, path)
        assert_close(loaded.logits(batch), model.logits(batch), rtol=0, atol=0)
        assert loaded.processor.encode(ask_with_answer()) == model.processor.encode(
            ask_with_answer()
        )
        trainer.strategy._lightning_module = loaded
        loaded.trainer = trainer


def ask_with_answer() -> Conversation:
    return Conversation("x", (Turn("user", ("color?",)), Turn("assistant", ("red",))))


def test_needs_a_tokenizer(tiny_model: MakeModel) -> None:
    model = tiny_model()
    model.language_model.tokenizer = None
    with pytest.raises(ValueError, match="must have a tokenizer, got none yet"):
        _ = model.processor


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ({"top_p": 0.0}, "top_p must be more than 0 and at most 1, got 0.0"),
    ],
)
def test_rejects_options_out_of_range(
    tiny_model: MakeModel, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(**option)


def test_a_batch_for_another_stage_is_refused(
    tiny_model: MakeModel, color_questions: MakeData
) -> None:
    model = tiny_model()
    batch = first_batch(model, color_questions([True]))
    prompts = Batch(batch.images, None, batch.prompts, batch.references)
    with pytest.raises(ValueError, match="must hold whole dialogues for a loss"):
        model(prompts)


def test_the_test_scores_each_sample_once_and_prints_its_probes(
    tiny_model: MakeModel, color_questions: MakeData, tmp_path: Path
) -> None:
    from lit_vlm.callbacks import AnswerReport

    path = color_questions([True, True, False, True, True, True, True])
    data = ConversationDataModule(test=JSONConversations(path), batch_size=3)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=str(tmp_path),
        callbacks=[AnswerReport()],
    )
    [figures, *_] = trainer.test(tiny_model(), data, verbose=False)
    names = ("test/accuracy", "test/accuracy_shuffled", "test/accuracy_blank")
    assert [figures[f"{name}_samples"] for name in names] == [7.0, 7.0, 7.0]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_pictures_of_any_shape_are_read(tiny_model: MakeModel, tmp_path: Path, resize: str) -> None:
    Image.new("RGB", (40, 10), "red").save(tmp_path / "wide.png")
    model = tiny_model(resize=resize)
    [pixels] = model.processor.pixels(ask("?", ImageContent(tmp_path / "wide.png")))
    assert pixels.shape == (3, *model.encoder.image_size)
    assert pixels[:, 8, 8].tolist() == [255, 0, 0]
    gray = [128, 128, 128]  # the encoder's mean
    assert (pixels[:, 0, 0].tolist() == gray) == (resize == "pad")
