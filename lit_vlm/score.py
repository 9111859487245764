"""``lit-vlm score FILE``: answers that a test has written, scored again without the model."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_vlm.errors import ConfigError, nearest

if TYPE_CHECKING:
    from lit_vlm.answer_rows import AnswerRow
    from lit_vlm.metrics import AnswerMetric

_USAGE = """usage: lit-vlm score FILE --metric NAME [--metric.KEY VALUE ...] [--metric NAME ...]
                     [--source NAME ...] [--output FILE.json]

Score the answers that lit-vlm test has written, without the model, by one metric or several.

  --metric NAME        a metric of lit_vlm.metrics, such as VQAAccuracy, or my_project.MyMetric
  --metric.KEY VALUE   an option of the metric before it, such as --metric.normalize always
  --source NAME        only answers to this data source's questions (default: each source by itself)
  --output FILE.json   also write the figures there
"""
_OPTIONS = ("--metric", "--source", "--output")
_SHOWN = 5  # names of rows


@dataclass
class _Asked:
    file: Path | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    output: Path | None = None


def score(words: list[str]) -> None:
    """Run ``lit-vlm score``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the command line is wrong.
        OSError: if a file cannot be read or written.
        ValueError: if the file does not hold answers, or a metric cannot judge them.
    """
    if "-h" in words or "--help" in words:
        print(_USAGE, end="")
        return
    asked = _read_words(words)
    if asked.file is None or not asked.metrics:
        missing = "a file of answers" if asked.file is None else "--metric NAME"
        raise ConfigError(f"score must be given {missing}: lit-vlm score FILE --metric NAME.")
    from lit_vlm.answer_rows import read_answer_rows
    from lit_vlm.rescoring import rescore
    from lit_vlm.score_table import print_figures, write_figures

    metrics = _build(asked.metrics)
    rows = _with_answers(_of_sources(read_answer_rows(asked.file), asked), asked.file)
    found = [(metric, rescore(rows, metric, asked.file)) for metric in metrics]
    options = [_options(record) for record in asked.metrics]
    print_figures([(said, own) for said, (_, own) in zip(options, found, strict=True)])
    if asked.output is not None:
        write_figures(asked.output, found)


def _read_words(words: list[str]) -> _Asked:
    asked = _Asked()
    rest = [part for word in words for part in _separate(word)]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if asked.file is not None:
                raise ConfigError(f"score takes one file of answers, got {word!r} besides.")
            asked.file = Path(word)
            continue
        if word not in _OPTIONS and not word.startswith("--metric."):
            raise ConfigError(f"unknown option {word}.{nearest(word, _OPTIONS)}")
        if not rest:
            raise ConfigError(f"{word} must be followed by a value, got nothing.")
        _take(asked, word, rest.pop(0))
    return asked


def _take(asked: _Asked, option: str, value: str) -> None:
    if option == "--source":
        asked.sources.append(value)
    elif option == "--output":
        asked.output = Path(value)
        if asked.output.suffix != ".json":
            raise ConfigError(f"--output must end in .json, got {value}.")
    elif option == "--metric":
        asked.metrics.append(_record(value))
    elif not asked.metrics:
        raise ConfigError(f"{option} must follow the metric that it is an option of (--metric).")
    else:
        import yaml

        asked.metrics[-1]["init_args"][option.removeprefix("--metric.")] = yaml.safe_load(value)


def _separate(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name.startswith("--") else [word]


def _record(value: str) -> dict[str, Any]:
    if not value.startswith("{"):
        return {"class_path": value, "init_args": {}}
    try:
        record = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--metric must be a name or JSON, got {value!r} ({error}).") from error
    return {"init_args": {}, **record}


def _build(records: list[dict[str, Any]]) -> "list[AnswerMetric]":
    from lit_vlm.class_names import known_classes
    from lit_vlm.metrics import AnswerMetric
    from lit_vlm.parser import FriendlyParser

    known_classes()  # once imported, they can be named without their modules
    made = []
    for record in records:
        parser = FriendlyParser()
        parser.add_argument("--metric", type=AnswerMetric)
        config = parser.parse_args(["--metric", json.dumps(record)])
        made.append(parser.instantiate(config).metric)
    return made


def _of_sources(rows: "list[AnswerRow]", asked: _Asked) -> "list[AnswerRow]":
    known = {row.source for row in rows}
    for source in asked.sources:
        if source not in known:
            names = sorted(known - {""})
            hint = nearest(source, names, list_all=False)
            raise ConfigError(
                f"--source must be a source that {asked.file} names "
                f"({', '.join(names) or 'none'}), got {source!r}.{hint}"
            )
    return [row for row in rows if not asked.sources or row.source in asked.sources]


def _with_answers(rows: "list[AnswerRow]", file: Path) -> "list[AnswerRow]":
    without = [row.name for row in rows if not row.answers]
    if len(without) == len(rows):
        raise ValueError(
            f"{file}: there must be something to compare the generated texts with, got {len(rows)} "
            f'rows without "answer" or "answers". Test on data that has answers.'
        )
    if without:
        named = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
        print(f"{len(without):,} of {len(rows):,} rows have no answer and are left out: {named}")
    return [row for row in rows if row.answers]


def _options(record: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in record["init_args"].items())
