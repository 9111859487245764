"""The boxes that a stored sample lists, handed out to the places that show them."""

from collections.abc import Mapping
from typing import Any

from lit_vlm.box_words import check_box
from lit_vlm.conversation import BadSampleError, Box, BoxContent
from lit_vlm.data.listed_images import checked_list

BOX_MARKER = "<bbox>"


class ListedBoxes:
    """The boxes under ``boxes``, in the order of their markers in the texts.

    Args:
        record: the sample.
        name: of the sample, for messages.
        marked: whether a marker is one even if the sample lists no boxes.

    Raises:
        BadSampleError: if a box is not four finite numbers in order, or ``box_images`` does not
            name an image for each.
    """

    def __init__(self, record: Mapping[str, Any], name: str, marked: bool) -> None:
        self.name = name
        self.marked = marked or record.get("boxes") is not None
        self.shown = 0
        boxes, images = record.get("boxes"), record.get("box_images")
        listed = [] if boxes is None else checked_list(boxes, "boxes", name)
        self.boxes = [self._box(box) for box in listed]
        self.images = None if images is None else checked_list(images, "box_images", name)
        if self.images is not None and len(self.images) != len(self.boxes):
            raise BadSampleError(
                f"{name}: 'box_images' must name an image for each of the {len(self.boxes)} boxes, "
                f"got {len(self.images)}."
            )
        for image in self.images or []:
            if not isinstance(image, int) or isinstance(image, bool) or image < 0:
                raise BadSampleError(
                    f"{name}: 'box_images' must hold the images' places, counted from 0, got "
                    f"{image!r}."
                )

    def next(self) -> BoxContent:
        """Return the next box; beyond the last, count on for the message."""
        place = self.shown
        self.shown += 1
        if place >= len(self.boxes):
            return BoxContent((0, 0, 1, 1))
        return BoxContent(self.boxes[place], self.images[place] if self.images else None)

    def check_all_shown(self) -> None:
        """Raise if there are more or fewer places than boxes."""
        if self.shown != len(self.boxes):
            raise BadSampleError(
                f"{self.name}: must have one {BOX_MARKER} in its texts for each box, got "
                f"{self.shown} markers and {len(self.boxes)} boxes."
            )

    def _box(self, box: Any) -> Box:
        numbers = box if isinstance(box, list) else []
        if len(numbers) != 4 or not all(_is_number(number) for number in numbers):
            raise BadSampleError(
                f"{self.name}: each of 'boxes' must be four numbers (left, top, right and bottom "
                f"in pixels), got {box!r:.60}."
            )
        left, top, right, bottom = numbers
        check_box((left, top, right, bottom), self.name)
        return left, top, right, bottom


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
