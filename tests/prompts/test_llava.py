from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE, LLaVAV1, Segment

PICTURE = ImageContent("picture.png")
TOKENIZER = train_bpe(["what color is it? it is red"], 300)
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
ROUNDS = [
    Turn("user", (PICTURE, "\nWhat is left?")),
    Turn("assistant", ("a circle",)),
    Turn("user", ("And right?",)),
    Turn("assistant", ("nothing",)),
]


def _text(segments: list[Segment]) -> str:
    return "".join("<image>" if segment == IMAGE else segment.text for segment in segments)


def test_writes_one_round() -> None:
    assert LLaVAV1().segments(ROUNDS[:2], TOKENIZER) == [
        Segment("content", f"{SYSTEM} USER: "),
        IMAGE,
        Segment("content", "\nWhat is left? ASSISTANT:"),
        Segment("content", " a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]


def test_writes_what_llava_writes() -> None:
    # get_prompt() of https://github.com/haotian-liu/LLaVA, llava/conversation.py, conv_vicuna_v1,
    # with "</s>" for the end of text.
    theirs = (
        f"{SYSTEM} USER: <image>\nWhat is left? ASSISTANT: a circle</s>"
        f"USER: And right? ASSISTANT: nothing</s>"
    )
    ours = _text(LLaVAV1().segments(ROUNDS, TOKENIZER))
    assert ours.replace("<|end|>", "</s>") == theirs
    prompt = _text(LLaVAV1().segments(ROUNDS[:3], TOKENIZER))
    assert theirs.startswith(prompt.replace("<|end|>", "</s>"))
    assert prompt.endswith("USER: And right? ASSISTANT:")


def test_moves_images_to_the_start_of_their_turn() -> None:
    turns = [Turn("user", ("Is ", PICTURE, " left of ", PICTURE, "?\n"))]
    text = _text(LLaVAV1("").segments(turns, TOKENIZER))
    assert text == "USER: <image>\n<image>\nIs  left of ? ASSISTANT:"


def test_a_turn_of_images_alone_has_no_line_break_at_its_end() -> None:
    turns = [Turn("user", (PICTURE, "\n"))]
    assert _text(LLaVAV1("").segments(turns, TOKENIZER)) == "USER: <image> ASSISTANT:"


def test_a_system_turn_takes_the_place_of_the_sentence() -> None:
    turns = [Turn("system", ("Look.",)), Turn("user", ("What?",))]
    assert _text(LLaVAV1().segments(turns, TOKENIZER)) == "Look. USER: What? ASSISTANT:"
    empty = [Turn("system", ("",)), Turn("user", ("What?",))]
    assert _text(LLaVAV1().segments(empty, TOKENIZER)) == "USER: What? ASSISTANT:"


def test_writes_new_tokens() -> None:
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_special_tokens({"additional_special_tokens": ["USER:", "ASSISTANT:"]})
    prompt = LLaVAV1("", markers="tokens")
    assert prompt.new_tokens == ("USER:", "ASSISTANT:")
    assert prompt.segments(ROUNDS[2:], tokenizer) == [
        Segment("markup", "USER:"),
        Segment("content", " And right? "),
        Segment("markup", "ASSISTANT:"),
        Segment("content", " nothing", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]
