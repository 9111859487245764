"""Which of two pictures is first? A model that confuses their order cannot answer."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CLI = Callable[..., tuple[int, str, str]]

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "gradient_clip_val": 1.0,
        "enable_progress_bar": False,
    },
    "model": {
        "class_path": "VisionLanguageModel",
        "init_args": {
            "encoder": {
                "class_path": "TimmEncoder",
                "init_args": {
                    "model_name": "test_resnet",
                    "layers": [2],
                    "image_size": 32,
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                },
            },
            "connector": "LinearConnector",
            "language_model": {
                "class_path": "CausalLanguageModel",
                "init_args": {
                    "config": {
                        "model_type": "llama",
                        "vocab_size": 320,
                        "hidden_size": 64,
                        "intermediate_size": 128,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 4,
                    },
                },
            },
            "prompt": "Plain",
            "learning_rate": 2e-3,
            "warmup": 20,
            "max_new_tokens": 6,
        },
    },
    "data": {
        "class_path": "ConversationDataModule",
        "init_args": {"batch_size": 32, "eval_batch_size": 128, "probes": []},
    },
}


def colors(split: str) -> dict[str, str]:
    """Return the colour of each picture of easy-VQA that a question asks for."""
    import easy_vqa

    load = getattr(easy_vqa, f"get_{split}_questions")
    paths = getattr(easy_vqa, f"get_{split}_image_paths")()
    asked = zip(*load(), strict=True)
    return {paths[image]: answer for text, answer, image in asked if text.startswith("what color")}


def pairs(split: str, count: int, seed: int) -> list[tuple[str, str]]:
    """Return pairs of pictures of two colours."""
    known = colors(split)
    random_ = random.Random(seed)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count:
        first, second = random_.sample(sorted(known), 2)
        if known[first] != known[second]:
            chosen.append((first, second))
    return chosen


def write(file: Path, chosen: list[tuple[str, str]], known: dict[str, str]) -> Path:
    with file.open("w") as lines:
        for number, (first, second) in enumerate(chosen):
            pictures = [{"type": "image", "path": path} for path in (first, second)]
            question = [*pictures, {"type": "text", "text": "what color is the first one?"}]
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": known[first]},
            ]
            lines.write(json.dumps({"id": str(number), "messages": turns}) + "\n")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "multimodal_causal"])
def test_says_which_of_two_pictures_is_first(cli: CLI, tmp_path: Path, attention: str) -> None:
    pytest.importorskip("easy_vqa")
    seen, unseen = colors("train"), colors("test")
    write(tmp_path / "train.jsonl", pairs("train", 6400, seed=0), seen)
    held_out = pairs("test", 256, seed=1)
    write(tmp_path / "val.jsonl", held_out[:64], unseen)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    code, _, err = cli(
        *("fit", "--config", tmp_path / "config.yaml", "--test_after_fit", "false"),
        *("--trainer.default_root_dir", tmp_path / "run"),
        *("--data.train.class_path", "JSONConversations"),
        *("--data.train.init_args.path", tmp_path / "train.jsonl"),
        *("--data.val.class_path", "JSONConversations"),
        *("--data.val.init_args.path", tmp_path / "val.jsonl"),
        *("--model.language_model.attention", attention),
    )
    assert code == 0, err
    answers: dict[str, list[str]] = {}
    for name, chosen in (("as is", held_out), ("reversed", [(b, a) for a, b in held_out])):
        file = write(tmp_path / "test.jsonl", chosen, unseen)
        output = tmp_path / "answers.jsonl"
        checkpoint = ("--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
        code, _, err = cli("test", *checkpoint, "--data", file, "--output", output)
        assert code == 0, err
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert sum(row["correct"] for row in rows) / len(rows) >= 0.95, name
        answers[name] = [row["generated"] for row in rows]
    both = zip(held_out, answers["as is"], answers["reversed"], strict=True)
    turned = [(unseen[a], unseen[b]) == (said, other) for (a, b), said, other in both]
    assert sum(turned) / len(turned) >= 0.9
