"""``lit-vlm chat``: ask a trained model about images."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lit_vlm.conversation import BadSampleError, Conversation, ImageContent, Turn
from lit_vlm.errors import ConfigError, nearest
from lit_vlm.generation import GENERATION_OPTIONS, out_of_range

if TYPE_CHECKING:
    from lit_vlm.model import VisionLanguageModel


def chat(words: Sequence[str]) -> None:
    """Answer one question, or hold a dialogue if none is given.

    Args:
        words: what follows ``lit-vlm chat`` on the command line.

    Raises:
        ConfigError: if an option is wrong.
        ValueError: if the checkpoint holds another kind of model.
        BadSampleError: if an image cannot be read or the question is too long.
    """
    options = _read_options(words)
    from lit_vlm.asked_checkpoint import locate_checkpoint
    from lit_vlm.checkpoints import load_model
    from lit_vlm.config_files import find_config
    from lit_vlm.model import VisionLanguageModel

    run = [word for name in options.config for word in ("--config", find_config(name))]
    if options.root is not None:
        run += ["--trainer.default_root_dir", options.root]
    path = locate_checkpoint(options.ckpt_path, run)
    model = load_model(path)
    if not isinstance(model, VisionLanguageModel):
        raise ValueError(
            f"chat: the checkpoint must hold a VisionLanguageModel, got {type(model).__name__}."
            f"{_what_to_do(model, path)}"
        )
    model.eval()
    for name in GENERATION_OPTIONS:
        if getattr(options, name) is not None:
            setattr(model, name, getattr(options, name))
    dialogue = _Dialogue(model, tuple(ImageContent(path) for path in options.image))
    if options.question is not None:
        print(dialogue.ask(options.question))
    else:
        _talk(dialogue)


def _what_to_do(model: object, path: str) -> str:
    from lit_vlm.pretraining.base import PretrainingModule

    if not isinstance(model, PretrainingModule):
        return ""
    eye = type(model.encoder).__name__
    return (
        f" Train one with the encoder in it: lit-vlm fit --config quickstart --model.encoder {eye} "
        f"--model.encoder.pretrained {path}"
    )


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
        print("Ask; /reset forgets the dialogue, an empty line or Ctrl-D ends it.")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not question:
            return
        if question == "/reset":
            dialogue.turns = ()
            continue
        try:
            print(dialogue.ask(question))
        except BadSampleError as error:
            if not dialogue.turns:
                raise
            print(f"{error} Try /reset.", file=sys.stderr)


def _read_options(words: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options, unknown = parser.parse_known_args(words)
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        if not unknown[0].startswith("-"):
            raise ConfigError(
                f"the question must be one word or in quotes, got {unknown[0]!r} too."
            )
        raise ConfigError(f"unknown option {unknown[0]}.{nearest(unknown[0], known)}")
    if options.ckpt_path is None:
        raise ConfigError("chat must know a trained model, got none. Give --ckpt_path FILE.")
    for name in GENERATION_OPTIONS:
        value = getattr(options, name)
        if value is not None and (problem := out_of_range(name, value)):
            raise ConfigError(f"--{problem}")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(message.replace("argument ", "", 1))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("lit-vlm chat", allow_abbrev=False, description=__doc__.partition(": ")[2])
    parser.add_argument("--ckpt_path", help="checkpoint of the model, or a run folder")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        help="config of the run, for --ckpt_path selected, best or last",
    )
    parser.add_argument(
        "--trainer.default_root_dir", dest="root", help="the run folder, if the config has another"
    )
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
