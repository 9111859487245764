import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_vlm.conversation import BadSampleError, Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Encoded, Processor
from lit_vlm.prompts import ChatTemplate, Plain, PromptFormat

M = 4
PICTURE = ImageContent("picture.png")
BYTES = train_bpe(["what color? it is red", "a blue square"], 300)


def _processor(
    tokenizer: PreTrainedTokenizerBase = BYTES,
    prompt: PromptFormat | None = None,
    max_length: int = 1000,
) -> Processor:
    return Processor(
        tokenizer, prompt or Plain(), (4, 6), M, "stretch", (10, 20, 30), max_length=max_length
    )


def _dialogue(question: tuple[str | ImageContent, ...], answer: str | None) -> Conversation:
    turns = [Turn("user", question)]
    turns += [] if answer is None else [Turn("assistant", (answer,))]
    return Conversation("s-1", tuple(turns), "data.json:7")


def _ids(text: str) -> list[int]:
    return list(BYTES(text, add_special_tokens=False).input_ids)


def test_builds_ids_and_labels_segment_by_segment() -> None:
    encoded = _processor().encode(_dialogue(("look: ", PICTURE, "what?"), "red"))
    before, after = _ids("look: "), _ids("what?")
    answer = [*_ids("red"), BYTES.eos_token_id]
    silent = [*before, *[BYTES.pad_token_id] * M, *after, *_ids("\n")]
    visual = [False] * len(before) + [True] * M + [False] * (len(after) + 1 + len(answer))
    assert encoded == Encoded(
        [*silent, *answer], [IGNORED] * len(silent) + answer, visual, truncated=0
    )


def test_cuts_text_at_the_length_limit_and_counts_it() -> None:
    dialogue = _dialogue((PICTURE, "what?"), "a long answer")
    whole = _processor().encode(dialogue)
    cut = _processor(max_length=len(whole.input_ids) - 3).encode(dialogue)
    assert cut.truncated == 3
    assert cut.input_ids == whole.input_ids[:-3]
    assert cut.labels == whole.labels[:-3]
    assert cut.is_visual == whole.is_visual[:-3]
    exact = _processor(max_length=len(whole.input_ids)).encode(dialogue)
    assert exact == whole


def test_refuses_to_cut_visual_tokens() -> None:
    message = (
        r"data\.json:7 \(sample 's-1'\): visual tokens must not be cut, but the sample has \d+ "
        r"tokens \(8 of them visual\) and max_length is 7\."
    )
    with pytest.raises(BadSampleError, match=message):
        _processor(max_length=7).encode(_dialogue((PICTURE, PICTURE, "?"), "red"))


def test_refuses_to_cut_the_answer_away() -> None:
    message = (
        r"data\.json:7 \(sample 's-1'\): the answer must not be cut away, .* max_length=8\. "
        r"Raise max_length or shorten the question\."
    )
    with pytest.raises(BadSampleError, match=message):
        _processor(max_length=8).encode(_dialogue((PICTURE, "what may that color be?"), "red"))


def test_refuses_a_prompt_that_leaves_no_room() -> None:
    message = r"data\.json:7 \(sample 's-1'\): a prompt must be shorter than max_length=5, got 6 "
    with pytest.raises(BadSampleError, match=message):
        _processor(max_length=5).encode_prompt(_dialogue((PICTURE, "?"), None))


def test_decodes_up_to_the_first_end() -> None:
    processor = _processor()
    end, pad = processor.stop_ids[0], processor.pad_id
    assert processor.decode([*_ids(" red"), end, *_ids("blue"), end, pad]) == "red"
    assert processor.decode([end, *_ids("blue")]) == ""
    assert processor.decode(_ids("red")) == "red"
    assert processor.decode([]) == ""


def test_reads_pictures_at_the_models_size(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "a.png")
    content = (ImageContent(tmp_path / "a.png"), ImageContent(Image.new("L", (5, 5), 7)))
    first, second = _processor().pixels(_dialogue(content, "red"))
    assert first.shape == second.shape == (3, 4, 6)
    assert first[:, 0, 0].tolist() == [1, 2, 3]
    assert set(second.flatten().tolist()) == {7}


def test_a_blank_image_is_the_mean_colour() -> None:
    blank = _processor().blank()
    assert blank.dtype == torch.uint8
    assert blank.shape == (3, 4, 6)
    assert [set(channel.flatten().tolist()) for channel in blank] == [{10}, {20}, {30}]


def test_names_the_sample_whose_picture_is_missing() -> None:
    message = r"data\.json:7 \(sample 's-1'\): there is no image /nowhere/picture\.png\."
    with pytest.raises(BadSampleError, match=message):
        _processor().pixels(_dialogue((ImageContent("/nowhere/picture.png"),), "red"))


def test_a_processor_travels_to_workers_without_its_cache() -> None:
    processor = _processor()
    before = len(pickle.dumps(processor))
    for i in range(200):
        processor.encode(_dialogue((f"question number {i}?",), f"answer {i}"))
    assert len(pickle.dumps(processor)) == before
    copy = pickle.loads(pickle.dumps(processor))
    dialogue = _dialogue((PICTURE, "what?"), "red")
    assert copy.encode(dialogue) == processor.encode(dialogue)


SPACED_TEXTS = ["what color is it? it is a red circle.", "\n\nit is\n\n\na blue square\n"] * 3


def _sentencepiece(scheme: str, texts: list[str]) -> PreTrainedTokenizerBase:
    """Make a BPE tokenizer with spaces and bytes as Llama 2's: each text begins with a space."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    space = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*space, decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*special, *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][: len(special)]  # the bytes are ordinary tokens
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    made.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + "
        "' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token + '\\n' }}{% endif %}"
        "{% endfor %}"
    )
    return made


SENTENCEPIECES = {
    (scheme, joins): _sentencepiece(scheme, SPACED_TEXTS if joins else SPACED_TEXTS[:1])
    for scheme in ("first", "always", "never")
    for joins in (True, False)
}
KINDS = pytest.mark.parametrize("kind", SENTENCEPIECES)


def test_the_spaced_tokenizers_add_a_space_and_join_line_breaks() -> None:
    spaced = SENTENCEPIECES["first", True]
    assert spaced.tokenize("red", add_special_tokens=False)[0].startswith("▁")
    assert "▁\n\n" in spaced.tokenize("\n\n\nred", add_special_tokens=False)


@KINDS
def test_no_space_comes_in_between_segments(kind: tuple[str, bool]) -> None:
    tokenizer = SENTENCEPIECES[kind]
    dialogue = _dialogue(("it is", PICTURE, "blue?\n", PICTURE, "\n\n\nor"), "red")
    processor = _processor(tokenizer)
    encoded = processor.encode(dialogue)
    text = [
        id_ for id_, visual in zip(encoded.input_ids, encoded.is_visual, strict=True) if not visual
    ]
    assert (
        str(tokenizer.decode(text)).removeprefix("<s>").lstrip() == "it isblue?\n\n\n\nor\nred</s>"
    )


@KINDS
def test_a_text_after_begin_of_text_is_what_the_tokenizer_makes_of_it(
    kind: tuple[str, bool],
) -> None:
    tokenizer = SENTENCEPIECES[kind]
    encoded = _processor(tokenizer).encode_prompt(_dialogue(("what color is it?",), None))
    whole = tokenizer("what color is it?").input_ids
    assert encoded.input_ids[: len(whole)] == whole


@KINDS
def test_a_chat_of_many_rounds_is_what_the_tokenizer_makes_of_its_text(
    kind: tuple[str, bool],
) -> None:
    tokenizer = SENTENCEPIECES[kind]
    turns = (
        Turn("user", ("what color is it?",)),
        Turn("assistant", ("it is red",)),
        Turn("user", ("and a blue square?",)),
        Turn("assistant", ("it is blue",)),
        Turn("user", ("is it?",)),
    )
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    theirs = tokenizer(str(text), add_special_tokens=False).input_ids
    processor = _processor(tokenizer, ChatTemplate())
    assert processor.encode_prompt(Conversation("a", turns)).input_ids == theirs


TEXTS = st.text(st.sampled_from("ab é\n\t.0=▁🙂</s>"), max_size=12)


@given(
    kind=st.sampled_from(sorted(SENTENCEPIECES)),
    before=TEXTS,
    after=TEXTS,
    answer=TEXTS.filter(lambda text: text.strip() != ""),
)
@settings(deadline=None, max_examples=200)
def test_no_text_is_lost_between_segments(
    kind: tuple[str, bool], before: str, after: str, answer: str
) -> None:
    tokenizer = SENTENCEPIECES[kind]
    processor = _processor(tokenizer)
    dialogue = _dialogue((before, PICTURE, after), answer)
    whole = processor.encode(dialogue)
    prompt = processor.encode_prompt(dialogue.until_answer()[0])
    places = len(prompt.input_ids)
    assert whole.input_ids[:places] == prompt.input_ids
    assert whole.labels[places:] == whole.input_ids[places:]
    spoken = str(tokenizer.decode([0, *whole.labels[places:-1]])).removeprefix("<unk>")
    assert spoken == answer.replace("▁", " ")
