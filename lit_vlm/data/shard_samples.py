"""What a sample of a WebDataset shard is: which of its members are the picture and the captions."""

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.images import read_image

_TEXTS = ("txt", "text", "transcript")
_RECORDS = ("json", "jsn")


class SampleForm(NamedTuple):
    """Which members of a sample are its picture and its captions.

    Attributes:
        pictures: endings that a picture may have, the first that is there is taken.
        captions: likewise for the captions: of texts, in which each line is one, or of JSON.
        field: of a JSON object, the key of the caption or of a list of captions; a JSON string or
            list is taken as it is.
    """

    pictures: tuple[str, ...]
    captions: tuple[str, ...]
    field: str

    def members(self, endings: Collection[str]) -> tuple[str, str]:
        """Return the endings of the picture and of the captions among those of a sample.

        Raises:
            LookupError: if one of them is missing; the message says which.
        """
        picture, captions = (
            next((ending for ending in wanted if ending in endings), None)
            for wanted in (self.pictures, self.captions)
        )
        if picture is not None and captions is not None:
            return picture, captions
        missing = "a picture" if picture is None else "captions"
        wanted = self.pictures if picture is None else self.captions
        raise LookupError(
            f"must have {missing} (.{', .'.join(wanted)}), got .{', .'.join(sorted(endings))} only."
        )

    def read_captions(self, ending: str, content: bytes, name: str) -> tuple[str, ...]:
        """Return the captions that a member holds.

        Args:
            ending: the member's.
            content: the member.
            name: of the sample, for messages.

        Raises:
            BadSampleError: if it holds none, or something else.
        """
        basichandlers = import_webdataset().autodecode.basichandlers
        try:
            value = basichandlers(ending, content)
        except ValueError as error:  # no UTF-8, or no JSON
            raise BadSampleError(f"{name}: .{ending} cannot be read: {error}.") from error
        if isinstance(value, str) and ending.rpartition(".")[2] in _TEXTS:
            value = value.lstrip("\ufeff").splitlines()
        elif isinstance(value, Mapping):
            value = self._of_record(value, ending, name)
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise BadSampleError(
                f"{name}: .{ending} must hold a caption or a list of captions, got {value!r:.80}."
            )
        captions = tuple(text.strip() for text in texts if text.strip())
        if not captions:
            raise BadSampleError(f"{name}: .{ending} must hold a caption, got none.")
        return captions

    def _of_record(self, record: Mapping[str, Any], ending: str, name: str) -> Any:
        if self.field not in record:
            raise BadSampleError(
                f"{name}: .{ending} must have the key {self.field!r}, got "
                f"{', '.join(map(repr, record)) or 'none'}. Name another by caption_field."
            )
        return record[self.field]


def sample_form(
    owner: str, pictures: Sequence[str], captions: Sequence[str], field: str
) -> SampleForm:
    """Return the form that a source's arguments describe.

    Args:
        owner: the source's class, for messages.
        pictures: see ``SampleForm``, as the others.
        captions: endings of texts or of JSON.
        field: a key.

    Raises:
        ValueError: if there are no endings, or captions are neither texts nor JSON.
    """
    known = (*_TEXTS, *_RECORDS)
    forms = [
        tuple(ending.lower().removeprefix(".") for ending in endings)
        for endings in (pictures, captions)
    ]
    if not all(forms):
        raise ValueError(
            f"{owner}: image_endings and caption_endings must name an ending each, got none."
        )
    if strange := [ending for ending in forms[1] if ending.rpartition(".")[2] not in known]:
        raise ValueError(
            f"{owner}: caption_endings must end in one of {', '.join(known)}, got {strange[0]!r}."
        )
    return SampleForm(forms[0], forms[1], field)


def decode_picture(content: bytes, name: str) -> Image.Image:
    """Return a picture as RGB, read as every picture here is: EXIF, transparency and all.

    Raises:
        BadSampleError: if it cannot be read whole.
    """
    try:
        with Image.open(BytesIO(content)) as picture:
            picture.load()
            return read_image(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadSampleError(
            f"{name}: the picture cannot be read: {error}. Mend or remove it, or pass such "
            f"pictures over by on_bad_image: skip."
        ) from error


def import_webdataset() -> Any:
    """Return the library.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    try:
        import webdataset
        import webdataset.autodecode
        import webdataset.tariterators
    except ImportError as error:
        raise ImportError(
            "WebDataset shards: the package webdataset must be installed: pip install "
            '"lit-vlm[webdataset]".'
        ) from error
    return webdataset
