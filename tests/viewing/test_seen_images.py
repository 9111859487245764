import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_vlm.conversation import BoxContent, Conversation, ImageContent, Turn
from lit_vlm.model import VisionLanguageModel
from lit_vlm.viewing.seen_images import see_images

TinyModel = Callable[..., VisionLanguageModel]


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    Image.effect_noise((32, 16), 80).convert("RGB").save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def test_shows_the_very_pixels_that_the_model_gets(tiny_model: TinyModel, wide: Path) -> None:
    processor = tiny_model(resize="pad").processor
    dialogue = Conversation("1", (Turn("user", (ImageContent(wide), "?")),))
    [seen] = see_images(dialogue, processor)
    [pixels] = processor.pixels(dialogue)
    assert (seen.source, seen.stored, seen.boxes) == (str(wide), (32, 16), ())
    head, _, content = seen.data_uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), pixels.numpy())


def test_moves_boxes_with_the_picture(tiny_model: TinyModel, wide: Path) -> None:
    content = (ImageContent(wide), "where? ", BoxContent((0, 0, 32, 16)))
    answer = Turn("assistant", ("<box>(500,250),(1000,750)</box>",))
    dialogue = Conversation("1", (Turn("user", content), answer))
    [padded] = see_images(dialogue, tiny_model(resize="pad").processor)
    assert padded.boxes == ((0.0, 0.25, 1.0, 0.75), (0.5, 0.25, 1.0, 0.75))
    [stretched] = see_images(dialogue, tiny_model(resize="stretch").processor)
    assert stretched.boxes[0] == (0.0, 0.0, 1.0, 1.0)


def test_shows_stored_pictures_without_a_model(wide: Path, pictures: dict[str, Path]) -> None:
    shown = (ImageContent(pictures["red"]), ImageContent(wide))
    content = (*shown, BoxContent((4, 0, 8, 16), 0), BoxContent((8, 0, 16, 16)))
    red, noise = see_images(Conversation("1", (Turn("user", content),)), None)
    assert (red.picture.size, red.boxes) == ((16, 16), ((0.25, 0.0, 0.5, 1.0),))
    assert (noise.picture.size, noise.boxes) == ((32, 16), ((0.25, 0.0, 0.5, 1.0),))


def test_names_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    dialogue = Conversation("1", (Turn("user", (ImageContent(tmp_path / "no.png"),)),))
    with pytest.raises(ValueError, match=r"there is no image .*no\.png"):
        see_images(dialogue, None)
