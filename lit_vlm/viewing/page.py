"""A dialogue as a model reads it, as one HTML page that needs no other file."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from lit_vlm.conversation import Conversation
from lit_vlm.viewing.pieces import ReadDialogue, Token, VisualTokens
from lit_vlm.viewing.seen_images import SeenImage
from lit_vlm.viewing.terminal import REFUSED, counts_line, dialogue_lines

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }
figure svg { width: 20rem; height: auto; display: block; border: 1px solid #ccc; }
figcaption { font-size: .8rem; color: #555; max-width: 20rem; overflow-wrap: anywhere; }
rect { fill: none; stroke: #e6007e; stroke-width: 2; vector-effect: non-scaling-stroke; }
.tokens { font-family: ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.token { border-right: 1px solid #ccc; }
.token:hover { outline: 2px solid #06c; }
.supervised { background: #d6f5d6; border-bottom: 3px solid #187a18; }
.visual { background: #dbe9ff; }
.cut { text-decoration: line-through; color: #b00020; background: #fde7ea; }
.refusal { border-left: 4px solid #b00020; padding-left: .5rem; }
"""


def sample_page(
    dialogue: Conversation,
    images: Sequence[SeenImage],
    read: ReadDialogue | None,
    note: str = "",
) -> str:
    """Return the page.

    Args:
        dialogue: the sample.
        images: its pictures as the model sees them.
        read: its tokens; None without a model.
        note: what the reader should know besides.
    """
    parts = [f"<p>{escape(note)}</p>"] if note else []
    parts += [_figure(image, place) for place, image in enumerate(images, start=1)]
    if read is not None:
        parts += _tokens(read)
    parts += ["<h2>In the data</h2>"]
    return _document(dialogue.name, [*parts, *_turns(dialogue_lines(dialogue))])


def record_page(name: str, lines: Iterable[str], refusal: str) -> str:
    """Return the page of a sample that cannot be read.

    Args:
        name: its place and id.
        lines: what stands in the file.
        refusal: why it cannot be read.
    """
    return _document(name, [*_refusal(refusal), "<h2>In the data</h2>", *_turns(lines)])


def _turns(lines: Iterable[str]) -> Iterator[str]:
    return (f'<p class="turn">{escape(line)}</p>' for line in lines)


def _refusal(why: str) -> list[str]:
    return [f'<p class="refusal">{escape(REFUSED.format(why=why))}</p>'] if why else []


def _document(name: str, parts: Iterable[str]) -> str:
    title = escape(name)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join([f"<h1>{title}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _figure(image: SeenImage, place: int) -> str:
    width, height = image.picture.size
    boxes = "".join(
        f'<rect x="{x1 * width:g}" y="{y1 * height:g}" width="{(x2 - x1) * width:g}" '
        f'height="{(y2 - y1) * height:g}"/>'
        for x1, y1, x2, y2 in image.boxes
    )
    stored = f"stored with {image.stored[0]} x {image.stored[1]} pixels"
    seen = f"seen with {width} x {height}"
    caption = escape(f"image {place}: {image.source}, {stored}, {seen}")
    return (
        f'<figure id="image-{place}"><svg viewBox="0 0 {width} {height}">'
        f'<image width="{width}" height="{height}" href="{image.data_uri}"/>{boxes}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _tokens(read: ReadDialogue) -> Iterator[str]:
    yield from _refusal(read.refusal)
    yield f"<h2>Tokens</h2><p>{escape(counts_line(read))}</p>"
    yield (
        '<p>Underlined on green: <span class="supervised">what the model learns to say</span>; '
        '<span class="visual">visual tokens</span>; <span class="cut">cut off</span>. Point at a '
        "token for its id.</p>"
    )
    yield f'<div class="tokens">{"".join(map(_span, read.pieces))}</div>'
    yield "<h2>What is learnt</h2>"
    learnt = (f"<li><code>{escape(text)}</code></li>" for text in read.learnt)
    yield f'<ol class="learnt">{"".join(learnt)}</ol>'


def _span(piece: Token | VisualTokens) -> str:
    classes = ["cut"] if piece.cut else []
    if isinstance(piece, VisualTokens):
        last = piece.place + piece.count - 1
        about = f"places {piece.place} to {last}"
        link = f'<a href="#image-{piece.image}">{escape(piece.text)}</a>'
        return f'<span class="{" ".join(["visual", *classes])}" title="{about}">{link}</span>'
    classes += ["supervised"] if piece.supervised else []
    about = f"id {piece.id}, place {piece.place}"
    text = escape(piece.text).replace("\n", "⏎\n")
    return f'<span class="{" ".join(["token", *classes])}" title="{about}">{text}</span>'
