"""The texts that docs/prompts.md shows are the ones that the formats write."""

import re
from pathlib import Path

import pytest

from lit_vlm import prompts
from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^`(\w+)`\n\n```text\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
DIALOGUE = [
    Turn("user", (ImageContent("a.png"), "\nWhat is left?")),
    Turn("assistant", ("a circle",)),
    Turn("user", ("And right?",)),
    Turn("assistant", ("nothing",)),
]


def test_every_format_is_shown() -> None:
    formats = {name for name in prompts.__all__ if hasattr(getattr(prompts, name), "stop_ids")}
    assert {name for name, _ in SHOWN} == formats - {"PromptFormat", "ChatTemplate"}


@pytest.mark.parametrize(("name", "text"), SHOWN)
def test_a_format_writes_what_the_page_shows(name: str, text: str) -> None:
    prompt = getattr(prompts, name)()
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_tokens(list(prompt.new_tokens), special_tokens=True)
    written = prompt.segments(DIALOGUE, tokenizer)
    ours = "".join("{image}" if segment == IMAGE else segment.text for segment in written)
    assert ours.replace("<|end|>", "{eos}") == text
