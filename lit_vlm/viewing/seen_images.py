"""A dialogue's pictures as the model sees them, with the boxes in them."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from lit_vlm.conversation import Box, BoxContent, Conversation, ImageContent, place_boxes
from lit_vlm.images import picture_size, read_image
from lit_vlm.processing import Processor
from lit_vlm.views import View


@dataclass(frozen=True, slots=True)
class SeenImage:
    """A picture.

    Attributes:
        source: its path.
        stored: width and height as it is stored.
        picture: what the model sees, or the stored picture without a model.
        boxes: in shares of the sides of ``picture``.
    """

    source: str
    stored: tuple[int, int]
    picture: Image.Image
    boxes: tuple[Box, ...]

    @property
    def data_uri(self) -> str:
        """The picture as PNG, to stand in a page."""
        file = io.BytesIO()
        self.picture.save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def see_images(dialogue: Conversation, processor: Processor | None) -> list[SeenImage]:
    """Return the pictures of a dialogue, in reading order.

    Args:
        dialogue: the sample.
        processor: the model's; None for the pictures as they are stored.

    Raises:
        ValueError: if a picture cannot be read, or a box is in none.
    """
    boxes = _boxes(dialogue, processor)
    if processor is None:
        pictures = [read_image(image.source) for image in dialogue.images]
    else:
        arrays = (pixels.permute(1, 2, 0).numpy() for pixels in processor.pixels(dialogue))
        pictures = [Image.fromarray(array) for array in arrays]
    return [
        SeenImage(str(image.source), picture_size(image.source), picture, tuple(own))
        for image, picture, own in zip(dialogue.images, pictures, boxes, strict=True)
    ]


def _boxes(dialogue: Conversation, processor: Processor | None) -> list[list[Box]]:
    found: list[list[Box]] = [[] for _ in dialogue.images]
    shown = -1
    for turn in place_boxes(dialogue.turns, dialogue.name):
        for part in turn.content:
            if isinstance(part, ImageContent):
                shown += 1
            elif isinstance(part, BoxContent):
                image = part.image or 0
                found[image].append(_share(part.box, dialogue.images[image], processor))
            elif processor is not None and shown >= 0:
                # Words that are boxes already are in shares of what the model sees.
                found[shown] += processor.boxes.read(part)
    return found


def _share(box: Box, image: ImageContent, processor: Processor | None) -> Box:
    width, height = size = picture_size(image.source)
    if processor is None:
        return box[0] / width, box[1] / height, box[2] / width, box[3] / height
    return View.of(size, processor.image_size, processor.resize).seen(box)
