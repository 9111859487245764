"""Compare ways of pretraining an encoder by what a vision-language model with it can do.

The same small vision transformer is pretrained on easy-VQA's training pictures by classification,
by the softmax and the sigmoid contrastive loss, and by self-distillation; then it is frozen in the
quickstart's model, whose connector and language model learn to read it. Each is repeated with
several seeds, which choose initial weights and the order of the data. ``none`` is the same frozen
encoder with random weights.

    python benchmarks/pretraining_comparison.py runs/comparison

Runs that are there are not repeated: the script can be stopped and called again.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

PRETRAININGS: dict[str, list[str]] = {
    "none": [],
    "classification": ["--config", "classify_easy_vqa"],
    "softmax": ["--config", "contrast_easy_vqa", "--model.loss", "softmax"],
    "sigmoid": ["--config", "contrast_easy_vqa", "--model.loss", "sigmoid"],
    "self-distillation": ["--config", "distill_easy_vqa"],
}
SIZES = '{"embed_dim": 128, "depth": 4, "num_heads": 4, "patch_size": 16}'
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t at 95 %, two-sided, by the number of seeds."""


class Options(NamedTuple):
    """What the command line says."""

    folder: Path
    seeds: int
    pretraining_steps: int
    steps: int
    test_batches: int
    processes: int


def main() -> None:
    """Train what is missing, and print the table."""
    options = _options()
    jobs = [(name, seed) for seed in range(options.seeds) for name in PRETRAININGS]
    with ThreadPoolExecutor(options.processes) as pool:
        scores = list(pool.map(lambda job: _score(options, *job), jobs))
    by_name = {
        name: [score for (other, _), score in zip(jobs, scores, strict=True) if other == name]
        for name in PRETRAININGS
    }
    print(_table(by_name))


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 6))
    parser.add_argument("--pretraining_steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--test_batches", type=int, default=8, help="of 256 questions")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, a core each")
    return Options(**vars(parser.parse_args()))


def _score(options: Options, name: str, seed: int) -> dict[str, float]:
    """Return the scores of one encoder: of the whole model by kind of question."""
    run = options.folder / f"{name}-{seed}"
    file = run / "model" / "predictions.jsonl"
    if not file.exists():
        encoder = _pretrain(options, name, seed)
        words = ["--config", "quickstart", "--seed_everything", str(seed)]
        words += ["--trainer.default_root_dir", str(run / "model")]
        words += ["--trainer.max_steps", str(options.steps), "--data.probes", "[]"]
        words += ["--trainer.limit_val_batches", "2", "--model.encoder", "CLIPEncoder", *encoder]
        words += ["--model.encoder.layers", "[-2]", "--trainer.limit_test_batches"]
        words += [str(options.test_batches), "--best_checkpoint.monitor", "val/loss"]
        words += ["--staged_freezing.stages.frozen.trains", "[connector, language_model]"]
        _fit(words)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    kinds: dict[str, list[bool]] = {"all": [], "what colour": [], "what shape": [], "yes or no": []}
    for row in rows:
        kinds["all"].append(row["correct"])
        kinds[_kind(row)].append(row["correct"])
    return {kind: statistics.fmean(right) for kind, right in kinds.items()}


def _pretrain(options: Options, name: str, seed: int) -> list[str]:
    if name == "none":
        return ["--model.encoder.config", SIZES]
    folder = options.folder / f"{name}-{seed}" / "encoder"
    if not (folder / "checkpoints" / "done").exists():
        words = [*PRETRAININGS[name], "--seed_everything", str(seed), "--test_after_fit", "false"]
        words += ["--trainer.max_steps", str(options.pretraining_steps)]
        _fit([*words, "--trainer.default_root_dir", str(folder)])
        (folder / "checkpoints" / "done").touch()
    return ["--model.encoder.pretrained", str(folder / "checkpoints" / "last.ckpt")]


def _fit(words: list[str]) -> None:
    # One thread a process: two runs on two cores take less time so than one after the other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["lit-vlm", "fit", *words, "--trainer.enable_progress_bar", "false"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def _kind(row: dict[str, Any]) -> str:
    if row["answer"] in ("yes", "no"):
        return "yes or no"
    return "what shape" if row["answer"] in ("circle", "rectangle", "triangle") else "what colour"


def _table(by_name: dict[str, list[dict[str, float]]]) -> str:
    kinds = list(next(iter(by_name.values()))[0])
    lines = [f"| pretraining | {' | '.join(kinds)} | all, minus classification |"]
    lines.append("|---" * (len(kinds) + 2) + "|")
    reference = [score["all"] for score in by_name["classification"]]
    for name, scores in by_name.items():
        cells = [_with_interval([score[kind] for score in scores]) for kind in kinds]
        own = [score["all"] for score in scores]
        pairs = [a - b for a, b in zip(own, reference, strict=True)]
        cells.append("-" if name == "classification" else _with_interval(pairs, sign="+"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_interval(values: list[float], sign: str = "") -> str:
    """Return a mean in percent and half the width of its 95 % interval over the seeds."""
    mean = 100 * statistics.fmean(values)
    half = 100 * T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:{sign}.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
