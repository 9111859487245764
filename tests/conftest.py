"""What the tests share: a few pictures with questions about them, and a model of a few neurons."""

import contextlib
import io
import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import seed_everything
from PIL import Image
from torch.multiprocessing.spawn import start_processes

from lit_vlm.encoders import TimmEncoder
from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.model import VisionLanguageModel
from lit_vlm.prompts import Plain

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
pytest.register_assert_rewrite("lit_vlm.testing")

COLORS = {"red": (255, 0, 0), "green": (0, 160, 0), "navy blue": (0, 0, 128), "white": (255,) * 3}
SIDE = 16


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """One small picture of each colour, by the colour's name."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = {}
    for name, color in COLORS.items():
        paths[name] = folder / f"{name.replace(' ', '-')}.png"
        Image.new("RGB", (SIDE, SIDE), color).save(paths[name])
    return paths


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write records as a JSON Lines file and return its path."""

    def write(records: list[dict[str, Any]], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def color_questions(
    pictures: dict[str, Path], write_jsonl: Callable[..., Path]
) -> Callable[[list[bool]], Path]:
    """Write questions about colours; each flag says whether its sample shows a picture."""

    def write(with_picture: list[bool]) -> Path:
        records: list[dict[str, Any]] = []
        for i, shown in enumerate(with_picture):
            color = list(pictures)[i % len(pictures)]
            question = f"{'<image>' if shown else ''}color number {i}?"
            answer = f"it is {color}" if i % 2 else color
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            image = {"image": str(pictures[color])} if shown else {}
            records.append({"id": f"sample-{i}", "conversations": turns, **image})
        return write_jsonl(records)

    return write


@pytest.fixture
def tiny_model() -> Callable[..., VisionLanguageModel]:
    """Make a model whose forward takes milliseconds; the same weights every time."""

    def make(
        encoder: str = "test_vit", sizes: dict[str, Any] | None = None, **options: Any
    ) -> VisionLanguageModel:
        seed_everything(0, verbose=False)
        vit = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
        config: dict[str, Any] = {
            "model_type": "llama",
            "vocab_size": 300,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        eye = TimmEncoder(
            encoder,
            image_size=SIDE,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            config=vit if encoder == "test_vit" else None,
        )
        model = CausalLanguageModel(config={**config, **(sizes or {})})
        model.train_tokenizer(["color number?", "it is red", "it is navy blue", "green white"])
        options = {"max_new_tokens": 6, **options}
        return VisionLanguageModel(eye, model, prompt=Plain(), **options)

    return make


@pytest.fixture
def two_ranks(tmp_path: Path) -> Callable[[Callable[[], Any]], list[Any]]:
    """Run a function in two processes of one group; return what each of them returned."""

    def run(job: Callable[[], Any]) -> list[Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        start_processes(_rank, (port, job, tmp_path), nprocs=2, start_method="fork")
        return [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]

    return run


def _rank(rank: int, port: int, job: Callable[[], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(place, NODE_RANK="0", LOCAL_RANK=str(rank))
    torch.save(job(), folder / f"rank{rank}.pt")


@pytest.fixture(scope="session")
def cli_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.jsonl``, ``val.jsonl``, their pictures, and ``tiny.yaml``."""
    folder = tmp_path_factory.mktemp("cli")
    for split, count in (("train", 6), ("val", 4)):
        lines = []
        for i in range(count):
            color = list(COLORS)[i % len(COLORS)]
            name = f"{split}-{i}.png"
            Image.new("RGB", (SIDE + 4, SIDE), COLORS[color]).save(folder / name)
            turns = [
                {"from": "human", "value": "<image>what color is it?"},
                {"from": "gpt", "value": color},
            ]
            lines.append(json.dumps({"id": f"{split}-{i}", "image": name, "conversations": turns}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "tiny.yaml").write_text(_TINY_CONFIG.replace("FOLDER", str(folder)))
    return folder


@pytest.fixture
def cli() -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run ``lit-vlm`` in this process: words to exit code, standard output and errors."""
    with _global_state_kept():
        yield _run_cli


@pytest.fixture(scope="session")
def finished_run(cli_folder: Path) -> Path:
    """The folder that ``lit-vlm fit`` left; copy it before changing anything in it."""
    with _global_state_kept():
        code, _, err = _run_cli("fit", "--config", cli_folder / "tiny.yaml")
    assert code == 0, err
    return cli_folder / "run"


def _run_cli(*words: object, stdin: str = "") -> tuple[int, str, str]:
    from lit_vlm.__main__ import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        given, sys.stdin = sys.stdin, io.StringIO(stdin)
        try:
            main([str(word) for word in words])
        except SystemExit as exit:
            code = int(exit.code or 0)
        finally:
            sys.stdin = given
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _global_state_kept() -> Iterator[None]:
    """Undo what the command line sets for its process: filters of warnings and logs, paths."""
    loggers = [
        logging.getLogger(f"lightning.{name}.utilities.rank_zero") for name in ("pytorch", "fabric")
    ]
    filters = [list(logger.filters) for logger in loggers]
    path, formatwarning, folder = list(sys.path), warnings.formatwarning, os.getcwd()
    modules = set(sys.modules)
    with warnings.catch_warnings():
        yield
    for logger, kept in zip(loggers, filters, strict=True):
        logger.filters = kept
    sys.path[:] = path
    warnings.formatwarning = formatwarning
    os.chdir(folder)
    for name in set(sys.modules) - modules:
        if name.startswith("my_project"):
            del sys.modules[name]


_TINY_CONFIG = """
trainer:
  default_root_dir: FOLDER/run
  accelerator: cpu
  devices: 1
  max_epochs: 2
  log_every_n_steps: 1
model:
  class_path: VisionLanguageModel
  init_args:
    encoder:
      class_path: TimmEncoder
      init_args:
        model_name: test_resnet
        layers: [3]
        image_size: 32
        mean: [0.5, 0.5, 0.5]
        std: [0.5, 0.5, 0.5]
    connector: MLPConnector
    language_model:
      class_path: CausalLanguageModel
      init_args:
        config:
          model_type: llama
          vocab_size: 300
          hidden_size: 16
          intermediate_size: 32
          num_hidden_layers: 1
          num_attention_heads: 2
          max_position_embeddings: 256
    prompt: Plain
    max_new_tokens: 2
data:
  class_path: ConversationDataModule
  init_args:
    train: {class_path: JSONConversations, init_args: {path: FOLDER/train.jsonl}}
    val: {class_path: JSONConversations, init_args: {path: FOLDER/val.jsonl}}
    test: {class_path: JSONConversations, init_args: {path: FOLDER/val.jsonl}}
    batch_size: 3
"""
