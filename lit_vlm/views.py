"""Where a picture lies in the image that a model sees of it."""

from dataclasses import dataclass

from lit_vlm.conversation import Box
from lit_vlm.images import Resize


@dataclass(frozen=True, slots=True)
class View:
    """What ``fit_image`` does to the places in a picture, in both directions.

    Attributes:
        picture: width and height of the picture.
        image: width and height of what the model sees.
        scale: pixels seen for each pixel of the picture, across and down.
        shift: where the picture's left top corner is seen; negative where a crop cuts it off.
    """

    picture: tuple[int, int]
    image: tuple[int, int]
    scale: tuple[float, float]
    shift: tuple[float, float]

    @classmethod
    def of(cls, picture: tuple[int, int], image_size: tuple[int, int], resize: Resize) -> "View":
        """Return the view of a picture.

        Args:
            picture: its width and height, in pixels.
            image_size: height and width of what the model sees.
            resize: how pictures of another shape are brought to that size.

        Example:
            >>> View.of((80, 40), (20, 20), "pad").seen((0, 0, 80, 40))
            (0.0, 0.25, 1.0, 0.75)
        """
        height, width = image_size
        if resize == "crop":
            return cls._cropped(picture, (width, height))
        if resize == "pad":
            return cls._padded(picture, (width, height))
        scale = (width / picture[0], height / picture[1])
        return cls(picture, (width, height), scale, (0.0, 0.0))

    @classmethod
    def _cropped(cls, picture: tuple[int, int], image: tuple[int, int]) -> "View":
        # ImageOps.fit cuts the middle out without rounding.
        scale = max(image[0] / picture[0], image[1] / picture[1])
        left, top = ((i - p * scale) / 2 for i, p in zip(image, picture, strict=True))
        return cls(picture, image, (scale, scale), (left, top))

    @classmethod
    def _padded(cls, picture: tuple[int, int], image: tuple[int, int]) -> "View":
        # ImageOps.pad rounds the size that the picture gets, and then its place.
        (width, height), inside = picture, image
        if width / height > image[0] / image[1]:
            inside = (image[0], round(height / width * image[0]))
        elif width / height < image[0] / image[1]:
            inside = (round(width / height * image[1]), image[1])
        scale = (inside[0] / width, inside[1] / height)
        left, top = ((i - p) * 0.5 for i, p in zip(image, inside, strict=True))
        return cls(picture, image, scale, (float(round(left)), float(round(top))))

    def seen(self, box: Box) -> Box:
        """Return a box of the picture's pixels as shares of the sides that the model sees.

        What is outside the image is cut off: a box that is not seen at all has no extent.
        """
        left, right = (self._seen(x, 0) for x in box[::2])
        top, bottom = (self._seen(y, 1) for y in box[1::2])
        return left, top, right, bottom

    def stored(self, box: Box) -> Box:
        """Return a box of shares of what the model sees as pixels of the picture.

        What is outside the picture is cut off: a box in the padding alone has no extent.
        """
        left, right = (self._stored(x, 0) for x in box[::2])
        top, bottom = (self._stored(y, 1) for y in box[1::2])
        return left, top, right, bottom

    def _seen(self, place: float | int, axis: int) -> float:
        share = (place * self.scale[axis] + self.shift[axis]) / self.image[axis]
        return min(max(share, 0.0), 1.0)

    def _stored(self, share: float | int, axis: int) -> float:
        place = (share * self.image[axis] - self.shift[axis]) / self.scale[axis]
        return min(max(place, 0.0), float(self.picture[axis]))
