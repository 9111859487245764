"""A command-line parser whose errors say what was wrong and what was near it."""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from lit_vlm.errors import root_cause

_NOISE = re.compile(
    r"^\s*(- )?(Does not validate against any|Subtypes|Errors|Given value|Not a valid subclass|"
    r"Subclass types expect|- a class path|- a dict|a class path \(str\)|"
    r"Expected a <class 'NoneType'>)"
)


class FriendlyParser(LightningArgumentParser):
    """Report a mistake in one or two lines, with the nearest accepted names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix of an option would otherwise be taken for the option, a typo among them.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the mistake and exit with 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        keys = re.findall(r'[Pp]arser key "([^"]+)"', message)
        where = f" at {'.'.join(keys)}" if keys else ""
        text = self._explain(message, ex)
        sys.stderr.write(f"lit-vlm: config error{where}: {text}\n")
        sys.stderr.write("  (COMMAND --help and --print_config show what is accepted)\n")
        sys.exit(2)

    def _explain(self, message: str, ex: Exception | None) -> str:
        if found := re.search(r"Option '([\w.]+)' is not accepted", message):
            classes = re.findall(r"Problem with given class_path '([^']+)'", message)
            return _unknown_option(found[1], classes[-1] if classes else None)
        if found := re.search(r"does not accept option '([\w.]+)'", message):
            return f"unknown key {found[1]!r}.{_near(found[1], self._known_keys())}"
        if found := re.search(r"[Uu]nrecognized arguments?: (\S+)", message):
            name = found[1].lstrip("-").partition("=")[0]
            return f"unknown option {found[1]!r}.{_near(name, self._known_keys())}"
        if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
            return f"no class {found[2]!r} in {found[1]}.{_near(found[2], _classes_in(found[1]))}"
        if found := re.search(r"Expected a dot import path string: (\S+)", message):
            return _unknown_class(found[1])
        if found := re.search(
            r"Import path (\S+) does not correspond to a subclass of (\w+)", message
        ):
            return f"{found[1]} is not a {found[2]}."
        if found := re.search(r"No module named '([\w.]+)'", message):
            return f"cannot import {found[1]!r}."
        if ex is not None and (cause := root_cause(ex)) is not ex:
            return str(cause)
        lines = [line for line in message.splitlines() if not _NOISE.match(line)]
        return "\n".join(lines[:6]) or message

    def _known_keys(self) -> set[str]:
        parsers = [self, *getattr(self, "_subcommand_parsers", {}).values()]
        action = getattr(self, "_subcommands_action", None)
        if action is not None:
            parsers += list(action.choices.values())
        keys = {a.dest for parser in parsers for a in parser._actions}
        # Keys of subcommands are known with and without the subcommand before them.
        return keys | {key.partition(".")[2] for key in keys if "." in key}


def _unknown_option(option: str, class_path: str | None) -> str:
    if class_path is None:
        return f"unknown option {option!r}."
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(importlib.import_module(module), name), fail_untyped=False)
    known = {a.dest.split(".")[0] for a in parser._actions if a.option_strings} - {"help"}
    return f"unknown option {option!r} for {class_path}.{_near(option, known)}"


def _unknown_class(name: str) -> str:
    families = (
        "encoders",
        "fusions",
        "connectors",
        "language_models",
        "prompts",
        "data",
        "callbacks",
    )
    known = {n for family in families for n in _classes_in(f"lit_vlm.{family}")}
    return (
        f"{name!r} is neither a class of lit-vlm nor a dotted path to one "
        f"(my_project.MyConnector).{_near(name, known, list_all=False)}"
    )


def _classes_in(module: str) -> list[str]:
    return [n for n, o in vars(importlib.import_module(module)).items() if inspect.isclass(o)]


def _near(word: str, known: Iterable[str], list_all: bool = True) -> str:
    options = sorted(known)
    if found := difflib.get_close_matches(word, options, n=3, cutoff=0.5):
        return f" Did you mean: {', '.join(found)}?"
    return f" Accepted: {', '.join(options)}." if list_all and len(options) < 40 else ""
