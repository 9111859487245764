"""``lit-vlm data show``: what a model sees of a sample."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lit_vlm.data_words import DataParser, model_words, read_words
from lit_vlm.errors import ConfigError, nearest

if TYPE_CHECKING:
    from lit_vlm.conversation import Conversation
    from lit_vlm.linting.reading import Read
    from lit_vlm.processing import Processor
    from lit_vlm.viewing import ReadDialogue, SeenImage

USAGE = """usage: lit-vlm data show FILE [--index I | --id ID] [--output sample.html]
                         [--config FILE ... | --ckpt_path CHECKPOINT]

Show what a model reads of a sample: its tokens in order, what is learnt of them and what is cut
off, and on the page its pictures as the model sees them. Without a config or a checkpoint: the
dialogue and the pictures as they are stored.

  --index I               place of the sample in the file, from 0 (default: 0)
  --id ID                 the sample's id instead
  --image_root DIR        where relative image paths start from (default: the file's folder)
  --config FILE           the model of this config reads; options of lit-vlm fit may follow. No
                          weights are loaded; a tokenizer may be downloaded
  --ckpt_path CHECKPOINT  this model reads, whatever --config says; a file, or a run folder. Its
                          weights stay on disk
  --stage NAME            as the training of this stage of the config reads; of the run's own
                          config.yaml, if --ckpt_path alone is given
  --output FILE.html      also write a page that needs no other file
"""


def show_data(words: Sequence[str]) -> None:
    """Run ``lit-vlm data show``.

    Args:
        words: what follows it on the command line.

    Raises:
        ConfigError: if the command line is wrong.
        OSError: if a file is missing, or one may not be written.
        SystemExit: with 1 if the sample is no dialogue, or one of its pictures cannot be read; what
            stands in the file is shown, and the reason.
    """
    options, others = _read_options(words)
    from lit_vlm.conversation import BadSampleError
    from lit_vlm.viewing import read_dialogue, sample_page, see_images

    found = _find(options)
    try:
        dialogue = _dialogue(found, options)
    except BadSampleError as error:
        _show_record(found, options, error)
    processor, note = _reading(options, others)
    try:
        images = see_images(dialogue, processor)
    except ValueError as error:
        _show_record(found, options, error)
    read = read_dialogue(dialogue, processor) if processor is not None else None
    if note:
        print(note, file=sys.stderr)
    _print(dialogue, images, read)
    _write(options, sample_page(dialogue, images, read, note))


def _show_record(found: "Read", options: argparse.Namespace, error: ValueError) -> NoReturn:
    from lit_vlm.linting.survey import sample_id
    from lit_vlm.viewing import record_lines, record_page
    from lit_vlm.viewing.terminal import REFUSED

    where = f"{options.file}:{found.line}"
    name = f"{where} (sample {sample_id(found, options.file)!r})"
    refusal = str(error).removeprefix(f"{name}: ").removeprefix(f"{where}: ")
    refusal = refusal.encode(errors="backslashreplace").decode()
    print(name, *record_lines(found.record), REFUSED.format(why=refusal), sep="\n")
    _write(options, record_page(name, record_lines(found.record), refusal))
    sys.exit(1)


def _write(options: argparse.Namespace, page: str) -> None:
    if options.output is None:
        return
    from lit_vlm.whole_file import whole_file

    with whole_file(options.output) as file:
        file.write(page)
    print(f"The page is in {options.output}")


def _reading(options: argparse.Namespace, others: list[str]) -> "tuple[Processor | None, str]":
    if not options.config and options.ckpt_path is None:
        return None, "No model was named (--config or --ckpt_path): there are no tokens to show."
    from lit_vlm.data_texts import file_texts
    from lit_vlm.model_reading import read_model

    texts = file_texts([options.file])
    reading = read_model(options.ckpt_path, others, lambda: texts, options.stage)
    return reading.processor, reading.note


def _print(
    dialogue: "Conversation", images: "Sequence[SeenImage]", read: "ReadDialogue | None"
) -> None:
    from rich.console import Console

    from lit_vlm.viewing import counts_line, dialogue_lines, tokens_line
    from lit_vlm.viewing.terminal import LEGEND, REFUSED

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(dialogue.name)
    for place, image in enumerate(images, start=1):
        stored, seen = (f"{w} x {h}" for w, h in (image.stored, image.picture.size))
        boxes = f", boxes: {len(image.boxes)}" if image.boxes else ""
        console.print(f"image {place}: {image.source}, {stored} pixels, seen as {seen}{boxes}")
    if read is None:
        for line in dialogue_lines(dialogue):
            console.print(line)
        return
    console.print(LEGEND)
    console.print(tokens_line(read))
    console.print(counts_line(read))
    for place, text in enumerate(read.learnt, start=1):
        console.print(f"learnt {place}: {text!r}")
    if read.refusal:
        console.print(REFUSED.format(why=read.refusal))


def _dialogue(found: "Read", options: argparse.Namespace) -> "Conversation":
    from lit_vlm.data.parsing import parse_conversation
    from lit_vlm.linting.survey import sample_id

    return parse_conversation(
        found.record,
        where=f"{options.file}:{found.line}",
        image_root=options.file.parent if options.image_root is None else options.image_root,
        default_id=sample_id(found, options.file),
    )


def _find(options: argparse.Namespace) -> "Read":
    from lit_vlm.linting.reading import read_records
    from lit_vlm.linting.survey import sample_id

    known = []
    for read in read_records(options.file):
        if read.broken:
            continue
        name = sample_id(read, options.file)
        if name == options.id if options.id is not None else read.place == options.index:
            return read
        known.append(name)
    if options.id is None:
        raise ConfigError(
            f"data show: --index must be below the number of samples in {options.file}, "
            f"{len(known):,}, got {options.index}."
        )
    hint = nearest(options.id, known)
    raise ConfigError(f"data show: --id must be one in {options.file}, got {options.id!r}.{hint}")


def _read_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = DataParser("show")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--index", type=int)
    parser.add_argument("--id")
    parser.add_argument("--image_root", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_model_arguments()
    options, unknown = read_words(parser, words)
    if options.index is not None and options.id is not None:
        raise ConfigError("data show: the sample must be named once, got --index and --id.")
    options.index = options.index or 0
    if options.index < 0:
        raise ConfigError(f"data show: --index must not be negative, got {options.index}.")
    if options.output is not None and options.output.suffix not in (".html", ".htm"):
        raise ConfigError(f"data show: --output must end in .html, got {options.output}.")
    return options, model_words(options, unknown)
