import re
from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError, Box, BoxContent, Conversation, ImageContent, Turn
from lit_vlm.images import Resize, picture_size
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import BoxFormat, Plain, PlainBoxes, read_boxes

WIDE = ImageContent(Image.new("RGB", (80, 40)))
TALL = ImageContent(Image.new("RGB", (20, 100)))
TOKENIZER = train_bpe(["where is it?"], 300)


def _processor(resize: Resize = "pad", boxes: BoxFormat | None = None) -> Processor:
    return Processor(TOKENIZER, Plain(), (20, 20), 2, resize, (0, 0, 0), 1000, boxes)


def _dialogue(
    *answer: str | BoxContent, images: tuple[ImageContent, ...] = (WIDE,)
) -> Conversation:
    turns = (Turn("user", (*images, "where?")), Turn("assistant", answer))
    return Conversation("s-1", turns, "data.json:7", ("there",))


@pytest.mark.parametrize(
    ("resize", "text"),
    [
        ("stretch", "at <box>(250,500),(500,1000)</box>."),
        ("crop", "at <box>(0,500),(500,1000)</box>."),
        ("pad", "at <box>(250,500),(500,750)</box>."),
    ],
)
def test_a_box_becomes_words_for_what_the_model_sees(resize: Resize, text: str) -> None:
    dialogue = _dialogue("at ", BoxContent((20, 20, 40, 40)), ".")
    written = _processor(resize).written(dialogue)
    assert written.turns[1] == Turn("assistant", (text,))
    assert written.turns[0] == dialogue.turns[0]
    assert (written.id, written.where, written.answers) == ("s-1", "data.json:7", ("there",))
    processor = _processor(resize)
    encoded = processor.encode(dialogue)
    assert encoded == processor.encode(written)
    assert processor.decode([label for label in encoded.labels if label >= 0]) == text
    assert processor.boxes_in_pixels(text, (80, 40)) == [(20, 20, 40, 40)]


def test_the_models_format_writes_and_reads() -> None:
    processor = _processor("stretch", PlainBoxes(2))
    written = processor.written(_dialogue(BoxContent((20, 20, 40, 40))))
    assert written.turns[1].text == "[0.25,0.50,0.50,1.00]"
    assert processor.boxes_in_pixels(written.turns[1].text, (80, 40)) == [(20, 20, 40, 40)]


def test_a_stage_that_reads_pictures_otherwise_moves_its_boxes() -> None:
    processor = _processor("pad").changed(resize="stretch")
    written = processor.written(_dialogue(BoxContent((20, 20, 40, 40))))
    assert written.turns[1].text == "<box>(250,500),(500,1000)</box>"
    assert processor.changed(boxes=PlainBoxes()).boxes.write((0, 0, 1, 1))[0] == "["


def test_a_box_is_in_the_last_image_before_it_or_in_the_one_it_names() -> None:
    box = (0, 0, 20, 20)
    turns = (
        Turn("user", (WIDE, "here", BoxContent(box), "there", BoxContent(box, 1), "?")),
        Turn("assistant", ("no",)),
        Turn("user", (TALL, BoxContent(box, 0))),
        Turn("assistant", (BoxContent(box),)),
    )
    written = _processor("stretch").written(Conversation("s", turns))
    wide, tall = "<box>(0,0),(250,500)</box>", "<box>(0,0),(1000,200)</box>"
    assert written.turns[0].content == (WIDE, f"here{wide}there{tall}?")
    assert written.turns[2].content == (TALL, wide)
    assert written.turns[3].text == tall


def test_boxes_of_a_picture_that_exif_turns_are_of_the_turned_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    image = ImageContent(tmp_path / "a.jpg")
    assert picture_size(tmp_path / "a.jpg") == (40, 80)
    written = _processor("stretch").written(_dialogue(BoxContent((0, 0, 20, 80)), images=(image,)))
    assert written.turns[1].text == "<box>(0,0),(500,1000)</box>"


def test_what_the_crop_leaves_of_a_box_is_what_is_written() -> None:
    # The crop of 80 x 40 shows columns 20 to 60.
    written = _processor("crop").written(_dialogue(BoxContent((0, 0, 40, 40))))
    assert read_boxes(written.turns[1].text, (1, 1)) == [(0, 0, 0.5, 1)]


def test_a_rounded_box_may_reach_out_by_a_pixel() -> None:
    written = _processor("stretch").written(_dialogue(BoxContent((-0.4, 0, 80.6, 41))))
    assert written.turns[1].text == "<box>(0,0),(1000,1000)</box>"


def test_a_dialogue_without_boxes_is_left_alone() -> None:
    missing = _dialogue("there", images=(ImageContent("/nowhere.png"),))
    assert _processor().written(missing) is missing


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            (0, 0, 20, 40),
            "the model must see some of a box, but the crop to 20 x 20 leaves nothing of "
            "[0, 0, 20, 40] in the picture of 80 x 40 pixels. Show whole pictures: resize: pad.",
        ),
        (
            (0, 0, 90, 40),
            "a box must be inside its picture, which has 80 x 40 pixels (width x height), got "
            "[0, 0, 90, 40].",
        ),
        ((0, 0, 40, 42), "a box must be inside its picture"),
        ((-2, 0, 40, 40), "a box must be inside its picture"),
        ((80.2, 0, 80.9, 40), "a box must be inside its picture"),
        ((0, -0.9, 40, 0), "a box must be inside its picture"),
        ((40, 0, 20, 40), "left less than right and top less than bottom, got [40, 0, 20, 40]."),
        ((0, 20, 20, 20), "left less than right and top less than bottom, got [0, 20, 20, 20]."),
        ((0, 0, float("inf"), 20), "got [0, 0, inf, 20]."),
        ((float("nan"), 0, 20, 20), "got [nan, 0, 20, 20]."),
        ((0, 0, 10**400, 20), "got [0, 0, 1"),
    ],
)
def test_names_the_sample_and_the_box_that_cannot_be_written(box: Box, message: str) -> None:
    place = "data.json:7 (sample 's-1'): "
    with pytest.raises(BadSampleError, match=re.escape(place) + ".*" + re.escape(message)):
        _processor("crop").encode(_dialogue(BoxContent(box)))


@pytest.mark.parametrize(
    ("box", "images", "message"),
    [
        (BoxContent((0, 0, 1, 1)), (), "in an image that stands before it, got the box [0, 0, 1"),
        (BoxContent((0, 0, 1, 1), 1), (WIDE,), "one of the sample's 1 images, counted from 0, got"),
        (BoxContent((0, 0, 1, 1), -1), (WIDE,), "got image -1 for the box [0, 0, 1, 1]."),
        (BoxContent((0, 0, 1, 1), 0), (), "one of the sample's 0 images"),
        (BoxContent((0, 0, 1, 1)), (ImageContent("/nowhere.png"),), "no image /nowhere.png."),
    ],
)
def test_names_the_sample_whose_box_has_no_picture(
    box: BoxContent, images: tuple[ImageContent, ...], message: str
) -> None:
    with pytest.raises(BadSampleError, match=r"data\.json:7 .*" + re.escape(message)):
        _processor().written(_dialogue(box, images=images))
