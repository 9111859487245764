"""A dialogue as a model reads it, on the terminal."""

from collections.abc import Iterator

from rich.text import Text

from lit_vlm.conversation import BoxContent, Conversation, ImageContent
from lit_vlm.viewing.pieces import ReadDialogue, Token, VisualTokens

LEGEND = (
    "| parts tokens, «...» is what the model learns to say, ~...~ is cut off by max_length, ⏎ is "
    "a line break"
)

_MOST_CUT = 40
REFUSED = "Training refuses this sample: {why}"


def tokens_line(read: ReadDialogue) -> Text:
    """Return the tokens in order, marked so that they are legible without colour, too.

    Of those that are cut off the first alone are shown, and the number of the others.
    """
    line = Text()
    before: Token | VisualTokens | None = None
    shown = sum(not piece.cut for piece in read.pieces) + _MOST_CUT
    for piece in read.pieces[:shown]:
        line.append(_closing(before, piece))
        if before is not None:
            line.append("|", "dim")
        line.append(_opening(before, piece))
        line.append(_shown(piece), _style(piece))
        before = piece
    line.append(_closing(before, None))
    if more := sum(p.count if isinstance(p, VisualTokens) else 1 for p in read.pieces[shown:]):
        line.append(f" ... and {more:,} more that are cut off")
    return line


def counts_line(read: ReadDialogue) -> str:
    """Return the numbers of tokens."""
    words = (
        f"{read.tokens:,} tokens: {read.visual:,} visual, {read.supervised:,} supervised; "
        f"{read.truncated:,} cut off by max_length={read.max_length:,}"
    )
    return words


def dialogue_lines(dialogue: Conversation) -> Iterator[str]:
    """Yield the turns as they stand in the data, images as their paths, boxes in pixels."""
    for turn in dialogue.turns:
        yield f"{turn.role}: {''.join(map(_stored, turn.content))}"


def _stored(part: str | ImageContent | BoxContent) -> str:
    if isinstance(part, ImageContent):
        return f"[{part.source}]"
    if isinstance(part, BoxContent):  # nothing that could be taken for thousandths
        return f"<bbox>[{', '.join(f'{side:g}' for side in part.box)}]"
    return part


def _shown(piece: Token | VisualTokens) -> str:
    return piece.text.replace("\r", "␍").replace("\n", "⏎")


def _style(piece: Token | VisualTokens) -> str:
    if piece.cut:
        return "strike red"
    if isinstance(piece, VisualTokens):
        return "cyan"
    return "bold green" if piece.supervised else ""


def _marks(piece: Token | VisualTokens | None) -> tuple[bool, bool]:
    supervised = isinstance(piece, Token) and piece.supervised
    return supervised, piece is not None and piece.cut


def _closing(before: Token | VisualTokens | None, piece: Token | VisualTokens | None) -> str:
    was, now = _marks(before), _marks(piece)
    ends_cut = was[1] and was != now
    return ("»" if was[0] and was != now else "") + ("~" if ends_cut else "")


def _opening(before: Token | VisualTokens | None, piece: Token | VisualTokens) -> str:
    was, now = _marks(before), _marks(piece)
    begins_cut = now[1] and was != now
    return ("~" if begins_cut else "") + ("«" if now[0] and was != now else "")
