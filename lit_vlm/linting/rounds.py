"""Questions that come again in a file, and whether the answers agree."""

import hashlib
from collections.abc import Iterator, Mapping

from lit_vlm.conversation import Conversation, ImageContent
from lit_vlm.linting.pictures import Picture
from lit_vlm.linting.problems import Finding


class Rounds:
    """Remember what was answered to the same images and words.

    An answer is compared with those to the same images (by their pixels) and the same words
    before it, earlier rounds included: "Why?" alone is no question that can be answered twice.
    Dialogues without images are passed over.
    """

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[bytes, str]] = {}
        self._whole: dict[bytes, str] = {}

    def findings(
        self, dialogue: Conversation, place: str, pictures: Mapping[str, Picture]
    ) -> Iterator[Finding]:
        """Yield what contradicts or repeats earlier samples, and remember this one.

        Args:
            dialogue: the sample.
            place: its line and id, in words.
            pictures: what its images are like, by path.
        """
        if not dialogue.images:
            return
        so_far = hashlib.blake2b(digest_size=16)
        answered = False
        for turn in dialogue.turns:
            if turn.role == "assistant":
                answered = True
                yield from self._compare(so_far.digest(), turn.text, place)
            so_far.update(repr((turn.role, [_key(p, pictures) for p in turn.content])).encode())
        whole = so_far.digest()
        if answered and whole in self._whole:
            yield Finding("repeated_sample", f"{self._whole[whole]} has the same images and words")
        self._whole.setdefault(whole, place)

    def _compare(self, question: bytes, answer: str, place: str) -> Iterator[Finding]:
        digest = hashlib.blake2b(answer.strip().encode(), digest_size=16).digest()
        known, first = self._answers.setdefault(question, (digest, place))
        if known != digest:
            message = f"{first} answers the same question about the same images otherwise"
            yield Finding("contradiction", f"{message}, got {answer.strip()[:60]!r} here")


def _key(part: object, pictures: Mapping[str, Picture]) -> object:
    if isinstance(part, ImageContent):
        picture = pictures.get(str(part.source))
        return picture.digest if picture and picture.digest else str(part.source)
    return part.strip() if isinstance(part, str) else part
