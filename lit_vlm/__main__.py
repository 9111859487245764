"""The command line's entrance, which imports nothing heavy until it must."""

import os
import sys
from collections.abc import Sequence

from lit_vlm.errors import ConfigError, explain, nearest

COMMANDS = {
    "fit": "train a model, then test it",
    "validate": "evaluate on the validation data",
    "test": "generate answers to the test data, score them and write them down",
    "predict": "generate answers to a file of questions, or an encoder's features of images",
    "chat": "ask a trained model about images",
    "score": "score the answers that a test has written, without the model",
    "show": "print and draw what a config means: who trains when (show recipe)",
    "plan": "print what a config asks of a cluster: parameters, visual tokens, memory",
    "data": "find what is wrong with data, show what a model sees of it, prepare public data",
}
_DATA_TOOLS = ("check", "show")  # which have a --help of their own
_USAGE = """usage: lit-vlm [--version] [--debug] COMMAND ...

Train vision-language models from interchangeable parts.

commands:
{commands}

  lit-vlm fit --config quickstart              train the example
  lit-vlm COMMAND --help                       what a command accepts
  lit-vlm fit --config FILE --print_config     the whole configuration, defaults included
  --debug                                      show where an error came from
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: words after the program's name; None for the process's own.

    Raises:
        SystemExit: with 2 for a wrong command line, 1 for another error of the user's.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        listed = "\n".join(f"  {name:<10}{about}" for name, about in COMMANDS.items())
        print(_USAGE.format(commands=listed), end="")
        return
    if words[0] == "--version":
        from lit_vlm import __version__

        print(f"lit-vlm {__version__}")
        return
    command, *rest = words
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS)
        sys.exit(_failure(f"the first word must be a command, got {command!r}.{hint}", 2))
    _run(command, rest, debug)


def _run(command: str, words: list[str], debug: bool) -> None:
    # A config may name the classes of a project in this folder, as `python -m` allows anyway.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        if command == "chat":
            from lit_vlm.chat import chat

            chat(words)
        elif command == "score":
            from lit_vlm.score import score

            score(words)
        elif command == "show":
            from lit_vlm.show import show

            show(words)
        elif command == "plan":
            from lit_vlm.plan_command import plan

            plan(words)
        elif command == "data":
            from lit_vlm.prepare import prepare_data

            prepare_data(words)
        else:
            from lit_vlm.cli import run

            run(command, words)
    except Exception as error:
        message = None if debug else explain(error)
        if message is None:
            raise
        code = 2 if isinstance(error, ConfigError) else 1
        tool = [word for word in words[:1] if command == "data" and word in _DATA_TOOLS]
        asked = " ".join([command, *tool])
        help_hint = f"lit-vlm {asked} --help lists the options, " if code == 2 else ""
        sys.exit(_failure(f"{message}\n  ({help_hint}--debug shows where this came from)", code))


def _failure(message: str, code: int) -> int:
    print(f"lit-vlm: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
