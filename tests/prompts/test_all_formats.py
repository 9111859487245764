"""What holds for every prompt format, with byte-level and SentencePiece-like tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Encoded, Processor
from lit_vlm.prompts import (
    ChatTemplate,
    LLaVAV1,
    Plain,
    PromptFormat,
    QuestionAnswer,
    QwenVL,
    QwenVLPretraining,
    Segment,
    VisualChat,
)
from lit_vlm.prompts.markers import checked_markers

M = 3
PICTURE = ImageContent("picture.png")
TEXTS = ["what color is it? it is a red circle.", "\n\nit is\n\n\na blue square\n"] * 3


class Case(NamedTuple):
    """A format, and what is learnt before and behind an answer; None for end of text."""

    prompt: PromptFormat
    before: str = ""
    end: str | None = None


CASES = {
    "Plain": Case(Plain()),
    "QuestionAnswer": Case(QuestionAnswer(), " "),
    "QuestionAnswer tokens": Case(QuestionAnswer(markers="tokens"), " "),
    "QuestionAnswer in one line": Case(QuestionAnswer("Q:", "A:", " "), " "),
    "LLaVAV1": Case(LLaVAV1(), " "),
    "LLaVAV1 tokens": Case(LLaVAV1(markers="tokens"), " "),
    "LLaVAV1 tokens, no system": Case(LLaVAV1("", "tokens"), " "),
    "QwenVL": Case(QwenVL(), end="<|im_end|>"),
    "QwenVL words": Case(QwenVL(markers="words")),
    "QwenVLPretraining": Case(QwenVLPretraining(), " "),
    "QwenVLPretraining words": Case(QwenVLPretraining("words"), " "),
    "VisualChat": Case(VisualChat()),
    "VisualChat tokens": Case(VisualChat(markers="tokens")),
}


def _sentencepiece(scheme: str) -> PreTrainedTokenizerBase:
    """Make a BPE tokenizer with spaces and bytes as Llama 2's, as tests/test_processing.py has."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    space = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*space, decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*special, *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][: len(special)]  # the bytes are ordinary tokens
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    return made


def _tokenizer(kind: str, prompt: PromptFormat) -> PreTrainedTokenizerBase:
    tokenizer = train_bpe(TEXTS, 320) if kind == "bytes" else _sentencepiece(kind)
    tokenizer.add_tokens(list(prompt.new_tokens), special_tokens=True)
    return tokenizer


def _processor(tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat) -> Processor:
    return Processor(tokenizer, prompt, (4, 4), M, "stretch", (0, 0, 0), max_length=100_000)


KINDS = ("bytes", "first", "always", "never")
PROCESSORS = {
    (name, kind): _processor(_tokenizer(kind, case.prompt), case.prompt)
    for name, case in CASES.items()
    for kind in KINDS
}
ALL = pytest.mark.parametrize("name", CASES)
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)


def _user(*content: str | ImageContent) -> Turn:
    return Turn("user", content)


def _assistant(text: str) -> Turn:
    return Turn("assistant", (text,))


def _dialogue(turns: Sequence[Turn]) -> Conversation:
    return Conversation("a sample", tuple(turns))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    # SentencePiece-like decoders take a space off the beginning; a token stands there.
    return str(tokenizer.decode([0, *ids])).removeprefix(str(tokenizer.decode([0])))


def _supervised(encoded: Encoded, processor: Processor) -> str:
    return _decode(processor.tokenizer, [i for i in encoded.labels if i != IGNORED])


def _expected(case: Case, answers: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
    end = case.end or str(tokenizer.eos_token)
    return "".join(case.before + answer + end for answer in answers)


def _check_prompts(processor: Processor, turns: Sequence[Turn]) -> None:
    whole = processor.encode(_dialogue(turns))
    for k, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        prompt = processor.encode_prompt(_dialogue(turns[:k]))
        places = len(prompt.input_ids)
        assert whole.input_ids[:places] == prompt.input_ids
        assert whole.is_visual[:places] == prompt.is_visual
        assert set(prompt.labels) <= {IGNORED} or k > 2  # nothing asked may be nothing written
        trained = processor.encode(_dialogue(turns[: k + 1]))
        assert trained.input_ids[:places] == prompt.input_ids
        assert trained.labels[:places] == prompt.labels
        assert trained.labels[places:] == trained.input_ids[places:]
        assert trained.labels == whole.labels[: len(trained.labels)]


QUESTIONS = ("What is on the left?", "And on the right?", "Are you sure?", "Why is it so?")
ANSWERS = ("a red circle", "Two blue squares:\n\n- one\n- and another.", "no", "It is.")


def _rounds(number: int, images: int) -> list[Turn]:
    """Return a dialogue whose images are dealt out over its rounds."""
    turns: list[Turn] = []
    for k in range(number):
        shown = [PICTURE] * len(range(k, images, number))
        turns += [_user(*shown, QUESTIONS[k]), _assistant(ANSWERS[k])]
    return turns


@ALL
@ALL_KINDS
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_exactly_the_answers_and_their_ends_are_supervised(
    name: str, kind: str, number: int, images: int
) -> None:
    processor = PROCESSORS[name, kind]
    turns = _rounds(number, images)
    encoded = processor.encode(_dialogue(turns))
    expected = _expected(CASES[name], ANSWERS[:number], processor.tokenizer)
    assert _supervised(encoded, processor) == expected
    assert sum(encoded.is_visual) == M * images
    _check_prompts(processor, turns)


TEMPLATES = {
    "Qwen2-0.5B-Instruct": Case(ChatTemplate(), end="<|im_end|>"),
    "zephyr-7b-beta": Case(ChatTemplate(), end="</s>"),
    "vicuna-7b-v1.5": Case(ChatTemplate(), before=" ", end="</s>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_the_same_is_supervised_with_a_chat_template(name: str, number: int, images: int) -> None:
    case = TEMPLATES[name]
    tokenizer = train_bpe(TEXTS, 320)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": case.end or ""})
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    template = Path(__file__).parent / "templates" / f"{name}.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    processor = _processor(tokenizer, case.prompt)
    turns = _rounds(number, images)
    encoded = processor.encode(_dialogue(turns))
    assert _supervised(encoded, processor) == _expected(case, ANSWERS[:number], tokenizer)
    assert sum(encoded.is_visual) == M * images
    _check_prompts(processor, turns)


@ALL
@pytest.mark.parametrize("number", [1, 3])
def test_a_format_is_token_for_token_what_the_tokenizer_makes_of_its_text(
    name: str, number: int
) -> None:
    processor = PROCESSORS[name, "bytes"]
    turns = _rounds(number, 0)
    text = "".join(s.text for s in CASES[name].prompt.segments(turns, processor.tokenizer))
    assert processor.encode(_dialogue(turns)).input_ids == processor.tokenizer(text).input_ids


@pytest.mark.parametrize("name", [name for name, c in CASES.items() if not c.prompt.new_tokens])
@pytest.mark.parametrize("kind", ["first", "always"])
def test_a_first_question_is_what_a_spaced_tokenizer_makes_of_it(name: str, kind: str) -> None:
    processor = PROCESSORS[name, kind]
    turns = _rounds(1, 0)[:1]
    written = CASES[name].prompt.segments(turns, processor.tokenizer)
    assert [s.text for s in written if s.kind == "markup"] == ["<s>"]
    theirs = processor.tokenizer("".join(s.text for s in written[1:])).input_ids
    assert processor.encode_prompt(_dialogue(turns)).input_ids == theirs


@ALL
@ALL_KINDS
def test_a_generated_answer_is_read_up_to_its_end(name: str, kind: str) -> None:
    processor = PROCESSORS[name, kind]
    encoded = processor.encode(_dialogue(_rounds(1, 1)))
    said = [label for label in encoded.labels if label != IGNORED]
    assert said[-1] == processor.stop_ids[0]
    assert processor.decode([*said, *processor.tokenizer(" and so on").input_ids]) == ANSWERS[0]


@ALL
def test_the_markers_read_the_same_as_words_and_as_tokens(name: str) -> None:
    prompt = CASES[name].prompt
    tokenizer = PROCESSORS[name, "bytes"].tokenizer
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    markup = [s.text for s in prompt.segments(_rounds(2, 3), tokenizer) if s.kind == "markup"]
    assert set(markup) <= set(added)
    assert set(prompt.new_tokens) <= set(markup)


@ALL
def test_a_format_can_be_rebuilt_from_its_record(name: str) -> None:
    prompt = CASES[name].prompt
    record = prompt.init_config
    again = type(prompt)(**record["init_args"])
    assert again.init_config == record
    assert again.new_tokens == prompt.new_tokens


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.prompt.new_tokens])
def test_refuses_a_tokenizer_without_the_new_tokens(name: str) -> None:
    prompt = CASES[name].prompt
    tokenizer = train_bpe(TEXTS, 320)
    first, *others = prompt.new_tokens
    message = (
        rf"{type(prompt).__name__}: the tokenizer must have the special tokens .*, got one without "
        rf"{', '.join(map(repr, others))}\. The model adds them when it is made with this prompt"
    ).replace("|", r"\|")
    tokenizer.add_tokens([first], special_tokens=True)
    tokenizer.add_tokens(others, special_tokens=False)  # a user could type those
    with pytest.raises(ValueError, match=message):
        prompt.segments(_rounds(1, 0), tokenizer)
    if name == "QwenVL":
        with pytest.raises(ValueError, match=message):
            prompt.stop_ids(tokenizer)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.end is None])
def test_refuses_a_tokenizer_without_end_of_text(name: str) -> None:
    prompt = CASES[name].prompt
    tokenizer = _tokenizer("bytes", prompt)
    tokenizer.eos_token = None
    message = rf"{type(prompt).__name__}: the tokenizer must have an end-of-text token"
    with pytest.raises(ValueError, match=message):
        prompt.stop_ids(tokenizer)
    with pytest.raises(ValueError, match=message):
        prompt.segments(_rounds(1, 0), tokenizer)


TYPED = (
    *("<image>", "<img>", "</img>", "<|im_start|>", "<|im_end|>", "<|end|>", "<|pad|>", "<s>"),
    *("</s>", "<unk>", "USER:", "ASSISTANT:", "Question:", "Answer:", "### Image", "### Answer:"),
    *(
        "### Question:",
        "### Image 1:\n",
        "<box>(1,2),(3,4)</box>",
        "<ref>",
        " ",
        "\n",
        "\n\n",
        "\t",
    ),
)
LETTERS = st.text(st.sampled_from("ab é\n\t.0=?🙂中"), min_size=1, max_size=8)
WORDS = st.lists(st.one_of(st.sampled_from(TYPED), LETTERS), max_size=5).map("".join)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROUND = st.tuples(st.integers(0, 2), st.integers(0, 1), WORDS, WORDS.filter(str.strip))


def _turns(system: str | None, rounds: list[tuple[int, int, str, str]]) -> list[Turn]:
    turns = [] if system is None else [Turn("system", (system,))]
    for before, behind, question, answer in rounds:
        turns.append(_user(*[PICTURE] * before, question, *[PICTURE] * behind))
        turns.append(_assistant(answer))
    return turns


def _check(processor: Processor, case: Case, turns: list[Turn]) -> None:
    tokenizer = processor.tokenizer
    whole = processor.encode(_dialogue(turns))
    answers = [turn.text for turn in turns if turn.role == "assistant"]
    assert _supervised(whole, processor) == _expected(case, answers, tokenizer)
    assert sum(whole.is_visual) == M * len(_dialogue(turns).images)
    written = case.prompt.segments(turns, tokenizer)
    special = {k for k, token in tokenizer.added_tokens_decoder.items() if token.special}
    places = zip(whole.input_ids, whole.is_visual, strict=True)
    words = [id_ for id_, visual in places if not visual]
    assert sum(id_ in special for id_ in words) == sum(s.kind == "markup" for s in written)
    text = "".join(s.text for s in written)
    read, begin = _decode(tokenizer, words), ""
    if written[0] == Segment("markup", "<s>"):  # some begin a text with a space of their own
        begin = "<s>"
    assert read.removeprefix(begin).lstrip() == text.removeprefix(begin).lstrip()
    assert all(turn.text.strip() in text for turn in turns)
    _check_prompts(processor, turns)


@given(
    name=st.sampled_from(sorted(CASES)),
    kind=st.sampled_from(KINDS),
    system=st.none() | st.just("") | WORDS,
    rounds=st.lists(ROUND, min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=200)
def test_prompt_and_labels_agree_whatever_is_typed(
    name: str, kind: str, system: str | None, rounds: list[tuple[int, int, str, str]]
) -> None:
    _check(PROCESSORS[name, kind], CASES[name], _turns(system, rounds))


@given(name=st.sampled_from(sorted(CASES)), question=UNICODE, answer=UNICODE.filter(str.strip))
@settings(deadline=None, max_examples=150)
def test_prompt_and_labels_agree_for_any_unicode(name: str, question: str, answer: str) -> None:
    turns = _turns(None, [(1, 0, question, answer), (0, 0, answer, question + "?")])
    _check(PROCESSORS[name, "bytes"], CASES[name], turns)


def test_refuses_markers_of_another_kind() -> None:
    with pytest.raises(ValueError, match="QwenVL: markers must be 'words' or 'tokens', got 'x'"):
        checked_markers("QwenVL", "x")
