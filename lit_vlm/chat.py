"""``lit-vlm chat``: ask a trained model about images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_vlm.conversation import Conversation, ImageContent, Turn

if TYPE_CHECKING:
    from lit_vlm.model import VisionLanguageModel


def chat(words: Sequence[str]) -> None:
    """Answer one question, or hold a dialogue if none is given.

    Args:
        words: what follows ``lit-vlm chat`` on the command line.

    Raises:
        SystemExit: with 2, if an option is wrong.
        ValueError: if the checkpoint holds another kind of model.
    """
    options = _parser().parse_args(words)
    from lit_vlm.checkpoints import load_model
    from lit_vlm.model import VisionLanguageModel

    model = load_model(options.ckpt_path)
    if not isinstance(model, VisionLanguageModel):
        raise ValueError(
            f"chat: the checkpoint must hold a VisionLanguageModel, got {type(model).__name__}."
        )
    model.eval()
    for name in ("max_new_tokens", "temperature", "top_p"):
        if getattr(options, name) is not None:
            setattr(model, name, getattr(options, name))
    images = tuple(ImageContent(path) for path in options.image)
    if options.question is not None:
        print(_Dialogue(model, images).ask(options.question))  # noqa: T201
    else:
        _talk(_Dialogue(model, images))


class _Dialogue:
    """Turns so far; the images stand before the first question."""

    def __init__(self, model: "VisionLanguageModel", images: tuple[ImageContent, ...]) -> None:
        self.model = model
        self.images = images
        self.turns: tuple[Turn, ...] = ()

    def ask(self, question: str) -> str:
        """Return the model's answer, and remember both."""
        shown: tuple[str | ImageContent, ...] = () if self.turns else self.images
        turns = (*self.turns, Turn("user", (*shown, question)))
        [answer] = self.model.respond([Conversation("chat", turns)])
        self.turns = (*turns, Turn("assistant", (answer,)))
        return str(answer)


def _talk(dialogue: _Dialogue) -> None:
    if sys.stdin.isatty():
        print("Ask; /reset forgets the dialogue, an empty line or Ctrl-D ends it.")  # noqa: T201
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()  # noqa: T201
            return
        if not question:
            return
        if question == "/reset":
            dialogue.turns = ()
            continue
        print(dialogue.ask(question))  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lit-vlm chat", allow_abbrev=False, description=chat.__doc__)
    parser.add_argument("--ckpt_path", required=True, type=Path, help="checkpoint of the model")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        help="image to ask about; may be given several times",
    )
    parser.add_argument("--max_new_tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, help="0 for greedy decoding")
    parser.add_argument("--top_p", type=float, help="share of probability to sample from")
    parser.add_argument("question", nargs="?", help="without it, a dialogue")
    return parser
