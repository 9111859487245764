"""Connectors, prompts and language models in the debug experiment, exchanged by flags alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CLI = Callable[..., tuple[int, str, str]]

CONNECTOR, PROMPT = "--model.connector", "--model.prompt"
T5 = {"model_type": "t5", "vocab_size": 512, "d_model": 32, "d_ff": 64, "d_kv": 16}
T5 |= {"num_layers": 2, "num_heads": 2}
COMBINATIONS = {
    "Qwen-VL's": [
        *(CONNECTOR, "CrossAttentionResampler", f"{CONNECTOR}.num_queries", "4"),
        *(PROMPT, "QwenVL"),
    ],
    "VisualChat's": [
        *(CONNECTOR, "TransformerConnector", f"{CONNECTOR}.num_heads", "4"),
        *(PROMPT, "VisualChat", "--model.language_model.attention", "multimodal_causal"),
    ],
    "VisualChat's with new tokens": [
        *(CONNECTOR, "PixelShuffleConnector", PROMPT, "VisualChat", f"{PROMPT}.markers", "tokens"),
    ],
    "LLaVA's": [CONNECTOR, "MLPConnector", PROMPT, "LLaVAV1"],
    "PaliGemma's": [
        *(CONNECTOR, "PoolingConnector", PROMPT, "QuestionAnswer"),
        *("--model.language_model.attention", "prefix"),
    ],
    "BLIP-2's with adapters": [
        *(CONNECTOR, "QFormerConnector", f"{CONNECTOR}.num_queries", "4"),
        *(f"{CONNECTOR}.width", "32", f"{CONNECTOR}.num_heads", "2", f"{CONNECTOR}.depth", "2"),
        *("--model.language_model.lora", '{"r": 2}'),
    ],
    "PaLI-3's": [
        *("--model.language_model", "Seq2SeqLanguageModel"),
        *("--model.language_model.config", json.dumps(T5)),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_trains_resumes_and_answers(cli: CLI, flags: list[str], tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa")
    run = tmp_path / "run"
    fit = ("fit", "--config", "debug", *flags, "--trainer.default_root_dir", run)
    size = ("--model.encoder.image_size", "64")  # 4 x 4 tokens
    code, out, err = cli(*fit, *size)
    assert code == 0, err
    assert "does it look?" in out
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "2", "--test_after_fit", "false")
    code, _, err = cli(*fit, *size, *more)
    assert code == 0, err

    question = '{"id": "a", "messages": [{"role": "user", "content": "what color?"}]}\n'
    (tmp_path / "questions.jsonl").write_text(question)
    words = ("--data", tmp_path / "questions.jsonl", "--output", tmp_path / "answers.jsonl")
    code, _, err = cli("predict", "--ckpt_path", run / "checkpoints/last.ckpt", *words)
    assert code == 0, err
    assert json.loads((tmp_path / "answers.jsonl").read_text())["id"] == "a"
