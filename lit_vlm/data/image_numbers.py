"""References to images by number, in texts that become part of a longer dialogue."""

import re
from collections.abc import Sequence

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_KIND = r"(?:image|picture|photo|figure)"
_NUMBER = r"#?\d+\b"
_END = r"(?=\s*(?:[?.!;:)]|$))"
_LAST = rf",?\s+(?:and|or|&|to)\s+{_NUMBER}"
_MORE = rf"(?:,\s*{_NUMBER})"
# In "image 1, 2 dogs" and "image 1 and 2 dogs" the second number counts dogs.
_NUMBERED = re.compile(
    rf"\b{_KIND}s\s+{_NUMBER}(?:{_MORE}*{_LAST}|{_MORE}+{_END})?"
    rf"|\b{_KIND}\s+{_NUMBER}(?:{_MORE}*{_LAST}{_END})?",
    re.IGNORECASE,
)
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)})(?=\s+{_KIND}\b)", re.IGNORECASE)


def renumber_images(text: str, numbers: Sequence[int]) -> str:
    """Rewrite what a text calls its images: ``image 2``, ``pictures 1 and 2``, ``second image``.

    Numbers that are none of the text's own images stay as they are, and so does whatever names an
    image in another way (``the left one``, ``the latter``).

    Args:
        text: any text.
        numbers: the new number of each of its images, from 1.

    Example:
        >>> renumber_images("Is image 1 like the second image, or pictures 1, 2 and 7?", [1, 3])
        'Is image 1 like the third image, or pictures 1, 3 and 7?'
    """

    def digits(found: re.Match[str]) -> str:
        return re.sub(r"\d+", lambda number: _moved(number[0], numbers), found[0])

    def ordinal(found: re.Match[str]) -> str:
        place = _ORDINALS.index(found[0].lower())
        if place >= len(numbers) or numbers[place] > len(_ORDINALS):
            return found[0]
        word = _ORDINALS[numbers[place] - 1]
        return word.capitalize() if found[0][0].isupper() else word

    return _ORDINAL.sub(ordinal, _NUMBERED.sub(digits, text))


def _moved(number: str, numbers: Sequence[int]) -> str:
    moved = {str(place): str(new) for place, new in enumerate(numbers, start=1)}
    return moved.get(number, number)
