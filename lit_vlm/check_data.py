"""``lit-vlm data check``: what is wrong with files of dialogues."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_vlm.data_words import DataParser, model_words, read_words
from lit_vlm.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from lit_vlm.linting.linter import Linter
    from lit_vlm.processing import Processor

USAGE = """usage: lit-vlm data check FILE [FILE ...] [--against TEST_FILE ...]
                          [--config FILE ... | --ckpt_path CHECKPOINT] [--fix OUT.jsonl]

Look for what is wrong with JSON or JSON Lines files of dialogues, all of it, not only the first.
Exits with 0 if there are no errors, with 1 if there are some. Warnings and infos count for nothing,
unless --strict is given: then warnings are errors.

  --image_root DIR        where relative image paths start from (default: each file's folder)
  --against TEST_FILE     files whose images the others must not show, told by their decoded pixels
  --config FILE           also count tokens, as the model of this config reads them; options of
                          lit-vlm fit may follow. Nothing is downloaded but a tokenizer
  --ckpt_path CHECKPOINT  also count tokens, as this model reads them, whatever --config says; a
                          file, or a run folder
  --stage NAME            as the training of this stage of the config reads them; of the run's own
                          config.yaml, if --ckpt_path alone is given
  --max_answer_words N    warn of longer answers (default: 1000)
  --fix OUT.jsonl         write the good samples there, and those that can be mended without a guess
  --output REPORT.json    write everything that was found, every line and id
  --num_workers N         threads that decode pictures (default: one for each processor)
  --strict                exit with 1 for warnings, too
"""


def check_data(words: Sequence[str]) -> None:
    """Run ``lit-vlm data check``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the command line is wrong.
        OSError: if a file is missing, or one may not be written.
        SystemExit: with 1 if there are errors.
    """
    options, others = _read_options(words)
    _check_outputs(options)
    from rich.console import Console

    from lit_vlm.linting.fixing import Fixer
    from lit_vlm.linting.reports import as_record, as_tables, count_severities
    from lit_vlm.whole_file import whole_file

    linter = _linter(options, others)
    reports = linter.reports()
    fix = None
    if options.fix is not None:
        fix = Fixer(linter, options.fix, keep_paths=options.image_root is not None).write()
    Console().print(as_tables(reports, fix))
    if options.output is not None:
        with whole_file(options.output) as file:
            json.dump(as_record(reports, fix), file, indent=1)
    counts = count_severities(reports)
    print(", ".join(f"{name}s: {counts[name]:,}" for name in ("error", "warning", "info")))
    if counts["error"] or (options.strict and counts["warning"]):
        sys.exit(1)


def _linter(options: argparse.Namespace, others: list[str]) -> "Linter":
    from rich.console import Console

    from lit_vlm.linting.linter import Linter

    return Linter(
        options.files,
        options.image_root,
        options.against,
        options.max_answer_words,
        _processor(options, others),
        options.num_workers or os.cpu_count() or 1,
        _Bars(Console(stderr=True)).track,
    )


class _Bars:
    """Bars on a terminal that show how far the work has come."""

    def __init__(self, console: "Console") -> None:
        self.console = console

    def track(self, things: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """Pass things on."""
        from rich.progress import track

        hidden = not self.console.is_terminal
        return track(things, what, total, console=self.console, disable=hidden, transient=True)


def _processor(options: argparse.Namespace, others: list[str]) -> "Processor | None":
    if not options.config and options.ckpt_path is None:
        return None
    from lit_vlm.data_texts import file_texts
    from lit_vlm.model_reading import read_model

    reading = read_model(
        options.ckpt_path, others, lambda: file_texts(options.files), options.stage
    )
    if reading.note:
        print(reading.note, file=sys.stderr)
    return reading.processor


def _read_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = DataParser("check")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--image_root", type=Path)
    parser.add_argument("--against", type=Path, nargs="+", action="extend", default=[])
    parser.add_argument("--max_answer_words", type=int, default=1000)
    parser.add_argument("--fix", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--num_workers", type=int)
    parser.add_argument("--strict", action="store_true")
    parser.add_model_arguments()
    options, unknown = read_words(parser, words)
    for name in ("max_answer_words", "num_workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"data check: --{name} must be at least 1, got {value}.")
    return options, model_words(options, unknown)


def _check_outputs(options: argparse.Namespace) -> None:
    inputs = [*options.files, *options.against]
    for name in ("fix", "output"):
        out = getattr(options, name)
        if out is None:
            continue
        if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
            raise ConfigError(
                f"data check: --{name} must be another file than those that are read, got {out}."
            )
    if options.fix is not None and options.fix == options.output:
        raise ConfigError("data check: --fix and --output must be two files, got one.")
    _check_output(options.fix, "--fix", "JSON Lines", ".jsonl")
    _check_output(options.output, "--output", "JSON", ".json")


def _check_output(out: Path | None, name: str, what: str, ending: str) -> None:
    if out is None:
        return
    if out.is_dir():
        raise ConfigError(f"data check: {name} must be a file, got the folder {out}.")
    if out.suffix != ending:
        raise ConfigError(f"data check: {name} writes {what}, got {out}. Name it {ending}.")
    from lit_vlm.run_folder import check_writable

    check_writable(out.parent, f"{name} FILE")
