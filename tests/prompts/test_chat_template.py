"""The templates are those of the named models' tokenizers, without their branches for tools."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from lit_vlm.conversation import BadSampleError, Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Encoded, Processor
from lit_vlm.prompts import ChatTemplate

M = 3
TEMPLATES = Path(__file__).parent / "templates"


class Chat(NamedTuple):
    """What a model's tokenizer needs beside its template."""

    end: str
    bos: str | None = None
    eos: str | None = None
    special: tuple[str, ...] = ()
    wrap: tuple[str, str] = ("", "")
    system: bool = True
    variables: dict[str, Any] = {}

    def supervised(self, answer: str) -> str:
        return self.wrap[0] + answer + self.wrap[1] + self.end


CHATML = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHATS = {
    "Qwen2-0.5B-Instruct": Chat("<|im_end|>", eos="<|im_end|>", special=CHATML),
    "SmolLM2-135M-Instruct": Chat("<|im_end|>", "<|im_start|>", "<|im_end|>", CHATML),
    "Llama-2-7b-chat-hf": Chat("</s>", "<s>", "</s>", wrap=(" ", " ")),
    "Meta-Llama-3-8B-Instruct": Chat("<|eot_id|>", "<|begin_of_text|>", special=HEADERS),
    "Llama-3.2-1B-Instruct": Chat(
        "<|eot_id|>",
        "<|begin_of_text|>",
        special=HEADERS,
        variables={"date_string": "01 Jan 2025"},
    ),
    "Mistral-7B-Instruct-v0.2": Chat("</s>", "<s>", "</s>", system=False),
    "gemma-2-2b-it": Chat(
        "<end_of_turn>", "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>"), system=False
    ),
    "zephyr-7b-beta": Chat("</s>", "<s>", "</s>"),
    "Phi-3-mini-4k-instruct": Chat(
        "<|end|>", "<s>", "<|endoftext|>", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    ),
    "vicuna-7b-v1.5": Chat("</s>", "<s>", "</s>", wrap=(" ", "")),
    "DeepSeek-V2-Lite-Chat": Chat(
        "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", wrap=(" ", "")
    ),
    "deepseek-coder-1.3b-instruct": Chat(
        "<|EOT|>", "<｜begin▁of▁sentence｜>", "<|EOT|>", wrap=("", "\n")
    ),
}
QWEN3 = Chat("<|im_end|>", eos="<|im_end|>", special=CHATML, wrap=("<think>\n\n</think>\n\n", ""))


def _tokenizer(name: str, chat: Chat) -> PreTrainedTokenizerBase:
    tokenizer = train_bpe(["what is it? a red circle, and a blue square."], 300)
    named = {"bos_token": chat.bos, "eos_token": chat.eos}
    tokenizer.add_special_tokens({k: v for k, v in named.items() if v is not None})
    tokenizer.add_tokens(list(chat.special), special_tokens=True)
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer


def _processor(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> Processor:
    prompt = ChatTemplate(chat.variables)
    return Processor(tokenizer, prompt, (4, 4), M, "stretch", (0, 0, 0), max_length=4096)


def _supervised(encoded: Encoded, processor: Processor) -> str:
    return str(processor.tokenizer.decode([i for i in encoded.labels if i != IGNORED]))


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def _dialogue(*turns: Turn) -> Conversation:
    return Conversation("a sample", turns)


def _user(*content: str | ImageContent) -> Turn:
    return Turn("user", content)


def _assistant(text: str) -> Turn:
    return Turn("assistant", (text,))


PICTURE = ImageContent("picture.png")
ROUNDS = (
    _user(PICTURE, "\nWhat is on the left?"),
    _assistant("a red circle"),
    _user("And what is on the right of ", PICTURE, " and ", PICTURE, "?"),
    _assistant("Two blue squares, I think:\n\n- one\n- and another."),
    _user("Are you sure?"),
    _assistant("no"),
)
SYSTEM = Turn("system", ("Look closely.",))


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("with_system", [False, True])
def test_every_generation_prompt_is_the_prefix_that_precedes_the_answer_in_training(
    name: str, with_system: bool
) -> None:
    chat = CHATS[name]
    processor = _processor(_tokenizer(name, chat), chat)
    turns = (SYSTEM, *ROUNDS) if with_system and chat.system else ROUNDS
    whole = processor.encode(_dialogue(*turns))
    for k, turn in enumerate(turns):
        if turn.role == "assistant":
            prompt = processor.encode_prompt(_dialogue(*turns[:k]))
            places = len(prompt.input_ids)
            assert whole.input_ids[:places] == prompt.input_ids
            assert whole.is_visual[:places] == prompt.is_visual
            assert whole.labels[places] != IGNORED
            trained = processor.encode(_dialogue(*turns[: k + 1]))
            assert trained.input_ids[:places] == prompt.input_ids
            assert trained.labels == whole.labels[: len(trained.labels)]
            answer = [label for label in trained.labels[places:] if label != IGNORED]
            assert trained.input_ids[places:] == answer


@pytest.mark.parametrize("name", CHATS)
def test_exactly_the_answers_and_their_ends_are_supervised(name: str) -> None:
    chat = CHATS[name]
    processor = _processor(_tokenizer(name, chat), chat)
    encoded = processor.encode(_dialogue(*ROUNDS))
    answers = [turn.text for turn in ROUNDS if turn.role == "assistant"]
    expected = "".join(chat.supervised(answer) for answer in answers)
    assert _supervised(encoded, processor) == expected
    assert sum(encoded.is_visual) == 3 * M
    pairs = zip(encoded.is_visual, encoded.labels, strict=True)
    assert all(label == IGNORED for visual, label in pairs if visual)


@pytest.mark.parametrize("name", CHATS)
def test_prompts_are_token_for_token_what_transformers_makes_of_the_template(name: str) -> None:
    chat = CHATS[name]
    tokenizer = _tokenizer(name, chat)
    processor = _processor(tokenizer, chat)
    turns = tuple(Turn(turn.role, (turn.text,)) for turn in ROUNDS[:-1])
    for k in (1, 3, 5):
        theirs: Any = tokenizer.apply_chat_template(
            _messages(turns[:k]), add_generation_prompt=True, return_dict=False, **chat.variables
        )
        assert processor.encode_prompt(_dialogue(*turns[:k])).input_ids == theirs


@pytest.mark.parametrize("name", CHATS)
def test_an_answer_is_cut_off_at_the_token_with_which_the_template_ends_it(name: str) -> None:
    chat = CHATS[name]
    tokenizer = _tokenizer(name, chat)
    processor = _processor(tokenizer, chat)
    assert tokenizer.convert_tokens_to_ids(chat.end) == processor.stop_ids[0]
    encoded = processor.encode(_dialogue(*ROUNDS[:2]))
    said = [label for label in encoded.labels if label != IGNORED]
    assert processor.decode([*said, *tokenizer("and so on").input_ids]) == "a red circle"


def test_writes_chatml_to_the_letter() -> None:
    chat = CHATS["Qwen2-0.5B-Instruct"]
    tokenizer = _tokenizer("Qwen2-0.5B-Instruct", chat)
    segments = ChatTemplate().segments(ROUNDS[:2], tokenizer)
    assert [(s.kind, s.text, s.supervised) for s in segments] == [
        (
            "markup",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
            False,
        ),
        ("image", "", False),
        ("markup", "\nWhat is on the left?<|im_end|>\n<|im_start|>assistant\n", False),
        ("markup", "a red circle<|im_end|>", True),
    ]


@pytest.mark.parametrize("thinking", [True, False])
def test_qwen3_learns_single_answers_with_an_empty_thought_before_them(thinking: bool) -> None:
    tokenizer = _tokenizer("Qwen3-0.6B", QWEN3)
    chat = QWEN3 if thinking else QWEN3._replace(variables={"enable_thinking": False})
    processor = _processor(tokenizer, chat)
    encoded = processor.encode(_dialogue(*ROUNDS[:2]))
    thought = QWEN3.wrap[0] if thinking else ""
    assert _supervised(encoded, processor) == f"{thought}a red circle<|im_end|>"
    prompt = processor.encode_prompt(_dialogue(*ROUNDS[:1]))
    assert encoded.input_ids[: len(prompt.input_ids)] == prompt.input_ids


@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}])
def test_refuses_a_template_that_rewrites_earlier_turns(variables: dict[str, Any]) -> None:
    processor = _processor(_tokenizer("Qwen3-0.6B", QWEN3), QWEN3._replace(variables=variables))
    message = (
        r"sample 'a sample': ChatTemplate: the template must keep what it wrote when a dialogue "
        r"goes on, but '<think>.*' became 'a red circle.*'\. Train on one question per sample"
    )
    with pytest.raises(BadSampleError, match=message):
        processor.encode(_dialogue(*ROUNDS[:4]))


def test_refuses_a_template_whose_generation_prompt_is_not_in_its_training_text() -> None:
    name = "DeepSeek-R1-Distill-Qwen-1.5B"
    end = "<｜end▁of▁sentence｜>"
    tokenizer = _tokenizer(name, Chat(end, eos=end, special=("<｜User｜>", "<｜Assistant｜>")))
    with pytest.raises(ValueError, match=r"an answer must follow the template's generation prompt"):
        Processor(tokenizer, ChatTemplate(), (4, 4), M, "stretch", (0, 0, 0), max_length=99)


def test_refuses_a_base_model() -> None:
    tokenizer = train_bpe(["a"], 258)
    with pytest.raises(ValueError, match=r"must have a chat template, got none.*use .* Plain"):
        ChatTemplate().segments(ROUNDS, tokenizer)


def test_names_the_roles_that_a_template_refuses() -> None:
    chat = CHATS["gemma-2-2b-it"]
    processor = _processor(_tokenizer("gemma-2-2b-it", chat), chat)
    message = r"sample 'a sample': .* refuses turns of system, user: System role not supported"
    with pytest.raises(BadSampleError, match=message):
        processor.encode(_dialogue(SYSTEM, *ROUNDS))


@pytest.mark.parametrize("word", ["<|im_end|>", "<|im_start|>", "\U0010f1a6"])
def test_refuses_words_that_would_pass_for_markup(word: str) -> None:
    chat = CHATS["Qwen2-0.5B-Instruct"]
    processor = _processor(_tokenizer("Qwen2-0.5B-Instruct", chat), chat)
    message = r"sample 'a sample': .* must not hold the special token"
    for turns in (
        (_user(f"what is {word}?"), _assistant("a token")),
        (_user("what is it?"), _assistant(f"it is {word}")),
    ):
        with pytest.raises(BadSampleError, match=message):
            processor.encode(_dialogue(*turns))


def test_refuses_a_template_that_ends_no_answer() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
    with pytest.raises(
        ValueError, match=r"must end an answer with a special token, got '.*answer'"
    ):
        ChatTemplate().stop_ids(tokenizer)


def test_refuses_a_template_that_changes_answers() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content | upper + eos_token }}{% endfor %}"
    )
    with pytest.raises(ValueError, match=r"must write an answer as it is, but 'answer' became"):
        ChatTemplate().stop_ids(tokenizer)


def test_finds_an_answer_that_occurs_in_the_markup_before_it() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content + '?' }}{% else %}"
        "{{ '<think></think>' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    segments = ChatTemplate().segments([_user("what"), _assistant("think")], tokenizer)
    assert segments[-1].text == "<think></think>think<|end|>"


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=40)
PROCESSORS = {
    name: _processor(_tokenizer(name, chat), chat)
    for name, chat in {**CHATS, "Qwen3-0.6B": QWEN3}.items()
}


@given(
    name=st.sampled_from(sorted(PROCESSORS)),
    question=TEXTS,
    answer=TEXTS.filter(lambda text: text.strip() != ""),
    number=st.integers(0, 2),
)
@settings(deadline=None, max_examples=150)
def test_prompt_and_labels_agree_for_any_text(
    name: str, question: str, answer: str, number: int
) -> None:
    processor = PROCESSORS[name]
    assume(not (name.startswith("Qwen3") and "</think>" in answer))
    words = [str(token) for token in processor.tokenizer.added_tokens_decoder.values()]
    assume(not any(word in text for word in words for text in (question, answer)))
    user = _user(*[PICTURE] * number, question)
    whole = processor.encode(_dialogue(user, _assistant(answer)))
    prompt = processor.encode_prompt(_dialogue(user))
    places = len(prompt.input_ids)
    assert whole.input_ids[:places] == prompt.input_ids
    assert set(whole.labels[:places]) == {IGNORED}
    assert whole.labels[places:] == whole.input_ids[places:]
    assert sum(whole.is_visual) == number * M
    assert answer.strip() in _supervised(whole, processor)
