import warnings
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from lit_vlm.language_models.tokenizers import (
    tokenizer_from_state,
    tokenizer_to_state,
    train_bpe,
)
from lit_vlm.processing import Processor
from lit_vlm.prompts import (
    ChatTemplate,
    LLaVAV1,
    Plain,
    PromptFormat,
    QuestionAnswer,
    QwenVL,
    VisualChat,
)
from lit_vlm.prompts import chat_models as chat_models_module

FORMATS = [Plain(), QuestionAnswer(), LLaVAV1(), QwenVL(), VisualChat()]
TEMPLATE = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"


@pytest.fixture(autouse=True)
def _nothing_warned_of_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_models_module, "_WARNED", set())


def _tokenizer(name: str, template: str | None, prompt: PromptFormat) -> PreTrainedTokenizerBase:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_tokens(list(prompt.new_tokens), special_tokens=True)
    tokenizer.chat_template = template
    tokenizer.name_or_path = name
    return tokenizer


def _processor(tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat) -> Processor:
    return Processor(tokenizer, prompt, (4, 4), 2, "stretch", (0, 0, 0), max_length=99)


@pytest.mark.parametrize("prompt", FORMATS, ids=lambda prompt: type(prompt).__name__)
def test_a_chat_model_is_warned_of_once_by_name(prompt: PromptFormat) -> None:
    who = type(prompt).__name__
    message = rf"{who}: a chat model should be asked in its own .* got the tokenizer 'org/chatty', "
    with pytest.warns(UserWarning, match=message + ".* worse than a base model .* ChatTemplate"):
        _processor(_tokenizer("org/chatty", TEMPLATE, prompt), prompt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _processor(_tokenizer("org/chatty", TEMPLATE, prompt), prompt)
    with pytest.warns(UserWarning, match=r"'org/talky'"):
        _processor(_tokenizer("org/talky", TEMPLATE, prompt), prompt)


@pytest.mark.parametrize("prompt", FORMATS, ids=lambda prompt: type(prompt).__name__)
@pytest.mark.parametrize(("name", "template"), [("org/base", None), ("", TEMPLATE)])
def test_base_models_and_tokenizers_made_here_are_not_warned_of(
    prompt: PromptFormat, name: str, template: str | None
) -> None:
    _processor(_tokenizer(name, template, prompt), prompt)


@pytest.mark.parametrize("prompt", FORMATS, ids=lambda prompt: type(prompt).__name__)
def test_a_tokenizer_from_a_checkpoint_is_not_warned_of_again(prompt: PromptFormat) -> None:
    made = _tokenizer("org/chatty", TEMPLATE, prompt)
    _processor(tokenizer_from_state(tokenizer_to_state(made)), prompt)


def test_a_chat_model_in_a_local_folder_is_warned_of(tmp_path: Path) -> None:
    tokenizer = _tokenizer(str(tmp_path), TEMPLATE, Plain())
    with pytest.warns(UserWarning, match="Plain: a chat model should be asked"):
        _processor(tokenizer, Plain())


def test_a_chat_model_in_its_own_format_is_not_warned_of() -> None:
    prompt = ChatTemplate()
    _processor(_tokenizer("org/chatty", TEMPLATE, prompt), prompt)
