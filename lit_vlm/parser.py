"""A command-line parser whose errors say what was wrong and what was near it."""

import re
from pathlib import Path
from typing import Any, NoReturn

from lightning import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lit_vlm.class_names import (
    accepted_options,
    annotation_of,
    classes_within,
    derived_options,
    known_classes,
    names_in,
    names_of_kind,
)
from lit_vlm.config_files import read_config
from lit_vlm.errors import ConfigError, nearest, root_cause
from lit_vlm.metrics import AnswerMetric
from lit_vlm.other_class import forget_defaults_of_other_class, replace_names_by_class

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "collections.abc.Sequence": "a list",
    "dict": "a dictionary",
}
_NONE = re.compile(r"=None$")
_OPTIONS = re.compile(r"Namespace\(((?:'[^']*'|[^'()])*)\)")
_TOP: dict[str, type] = {
    "model": LightningModule,
    "data": LightningDataModule,
    "trainer.callbacks": Callback,
    "metric": AnswerMetric,
}
forget_defaults_of_other_class()
replace_names_by_class()


class FriendlyParser(LightningArgumentParser):
    """Report a mistake in one or two lines, with the nearest accepted names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix of an option would otherwise be taken for the option, a typo among them.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Any = None, *others: Any, **kwargs: Any) -> Any:
        """Parse options; ``null`` for an argument of a part is no text, as jsonargparse has it."""
        # It hands such an option on to a parser of the part's class as --name=None.
        if isinstance(args, list):
            args = [_NONE.sub("=null", word) if isinstance(word, str) else word for word in args]
        return super().parse_args(args, *others, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ``ConfigError`` that names the place and what is accepted there."""
        if not self.exit_on_error:
            super().error(message, ex)
        place = ".".join(re.findall(r'[Pp]arser key "([^"]+)"', message))
        where = f"config error at {place}: " if place else "config error: "
        raise ConfigError(where + _as_written(self._explain(message, place, ex))) from ex

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file; an unknown key without content, which would be ignored, is an error too."""
        known = {action.dest.partition(".")[0] for action in self._actions}
        for key in read_config(str(cfg_path)):
            if str(key).rstrip("+") not in known:
                file = Path(str(cfg_path)).name
                raise ConfigError(
                    f"config error in {file}: unknown key {key!r}.{nearest(str(key), known)}"
                )
        return super().parse_path(cfg_path, *args, **kwargs)

    def _explain(self, message: str, place: str, ex: Exception | None) -> str:
        described = self._wrong_key(message) or _option_of_one_or_several(message, place)
        described = described or _wrong_class(message, place)
        described = described or _wrong_option(message, place) or _wrong_type(message)
        if described is None and ex is not None and (cause := root_cause(ex)) is not ex:
            return str(cause)
        return described or message

    def _wrong_key(self, message: str) -> str | None:
        if found := re.search(r"does not accept option '([\w.]+)'", message):
            return f"unknown key {found[1]!r}.{nearest(found[1], self._known_keys())}"
        if found := re.search(r"[Uu]nrecognized arguments?: (\S+)", message):
            name = found[1].lstrip("-").partition("=")[0]
            if name == found[1]:
                return f"each value must follow an option (--name value), got {name!r} alone."
            return f"unknown option --{name}.{nearest(name, self._known_keys())}"
        if found := re.search(r"the following arguments are required: (.*)", message):
            missing = [key.rpartition(".")[2] for key in found[1].split(", ")]
            return f"{' and '.join(missing)} must be given, in a config (--config) or by an option."
        return None

    def _known_keys(self) -> set[str]:
        parsers = [self, *getattr(self, "_subcommand_parsers", {}).values()]
        action = getattr(self, "_subcommands_action", None)
        if action is not None:
            parsers += list(action.choices.values())
        keys = {a.dest for parser in parsers for a in parser._actions}
        # Keys of subcommands are known with and without the subcommand before them.
        return keys | {key.partition(".")[2] for key in keys if "." in key}


def _as_written(message: str) -> str:
    """Write options that belong to no class as the dictionary that they are."""
    while found := _OPTIONS.search(message):
        options = re.sub(r"\b(\w+)=", r"\1: ", found[1])
        message = f"{message[: found.start()]}{{{options}}}{message[found.end() :]}"
    return message


def _wrong_class(message: str, place: str) -> str | None:
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"there is no {found[2]!r} in {found[1]}.{nearest(found[2], names_in(found[1]))}"
    if found := re.search(r"No module named '([\w.]+)'", message):
        return (
            f"the module {found[1]!r} must be importable from this folder or be installed, got "
            f"neither.{nearest(found[1], known_classes(), list_all=False)}"
        )
    bases = _bases_at(message, place)
    refused = re.search(r"Import path (\S+) does not correspond to a subclass", message)
    unknown = re.search(r"Expected a dot import path string: (\S+)", message)
    if refused or (unknown and unknown[1] in known_classes()):
        name = (refused or unknown)[1]  # type: ignore[index]
        kind = " or ".join(base.__name__ for base in bases) or "class of the right kind"
        return f"must be a {kind}, got {name}.{nearest(name, names_of_kind(bases))}"
    if found := re.search(r"Expected an instantiatable class, but (\w+) is abstract", message):
        hint = nearest(found[1], names_of_kind(bases))
        return f"must be a class that can be made, got {found[1]}, which is abstract.{hint}"
    if unknown:
        hint = nearest(unknown[1], names_of_kind(bases) or known_classes(), list_all=bool(bases))
        return (
            f"must be a class of lit-vlm or a dotted path such as my_project.MyClass, got "
            f"{unknown[1]!r}.{hint}"
        )
    return None


def _option_of_one_or_several(message: str, place: str) -> str | None:
    # Where a class or a dictionary of classes is accepted, a word may be an option or a key.
    given = re.search(r"NestedArg\(key='(\w+)'", message)
    is_option = given and f"Option '{given[1]}' is not accepted" in message
    return _wrong_option(message, place) if is_option else None


def _wrong_option(message: str, place: str) -> str | None:
    found = re.search(r"Option '([\w.]+)' is not accepted", message)
    if found is None:
        return None
    # What is behind it may be another reading of the value, as a class.
    option, owner = found[1], _owner(message[: found.start()])
    # A class that is given as a factory is named behind the error, other classes before it.
    factory = re.search(r"class_path[^']*'([\w.]+)'", message[found.end() :].partition("\n")[0])
    class_path = factory[1] if factory else owner
    if class_path is None:
        return f"unknown option {option!r}."
    derived: list[str] = []
    if factory and owner:
        derived = derived_options(class_path, annotation_of(owner, place.rpartition(".")[2]))
    if option in derived:
        return f"{option!r} of {class_path} follows from the other parts. Leave it out."
    options = [name for name in accepted_options(class_path) if name not in derived]
    return f"unknown option {option!r} for {class_path}.{nearest(option, options)}"


def _wrong_type(message: str) -> str | None:
    # The last block is about the innermost key; what follows it is about those around it.
    block = re.split(r'[Pp]arser key "[^"]+":', message)[-1]
    given = re.search(
        r"(?:Got value|Given value): (.*?)(?:\. Got value: .*)?$", block, re.MULTILINE
    )
    names = re.findall(r"Expected an? <class '([\w.]+)'>", block)
    choices = [
        choice.strip(" '\"")
        for literal in re.findall(r"Expected an? typing\.Literal\[(.*?)\]", block)
        for choice in literal.split(",")
    ]
    wanted = [_TYPES[name] for name in dict.fromkeys(names) if name in _TYPES]
    wanted += [f"a list of {n}" for n in re.findall(r"Expected a tuple with (\d+) elem", block)]
    wanted += [f"one of {', '.join(choices)}"] if choices else []
    if given is None or not wanted:
        return None
    hint = nearest(given[1], choices, list_all=False)
    if given[1].startswith("Namespace(") and "a dictionary" in wanted:
        # Where a list is accepted too, it takes no key by itself (--data.KEY).
        key = re.findall(r'[Pp]arser key "([^"]+)"', message)[-1]
        pairs = re.findall(r"([\w-]+)='?([^',)]*)'?", given[1])
        whole = ", ".join(f"{name}: {value}" for name, value in pairs)
        hint = f" Give the dictionary as a whole: .{key} '{{{whole}, ...}}'."
    return f"must be {' or '.join(wanted)}, got {given[1]!r}.{hint}"


def _bases_at(message: str, place: str) -> tuple[type, ...]:
    if place in _TOP:
        return (_TOP[place],)
    owner = _owner(message)
    return classes_within(annotation_of(owner, place.rpartition(".")[2])) if owner else ()


def _owner(message: str) -> str | None:
    paths = re.findall(r"Problem with given class_path '([^']+)'", message)
    return paths[-1] if paths else None
