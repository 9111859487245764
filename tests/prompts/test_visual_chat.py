from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE, Segment, VisualChat

PICTURE = ImageContent("picture.png")
TOKENIZER = train_bpe(["what color is it? it is red"], 300)
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
ROUNDS = [
    Turn("user", (PICTURE, "\nWhat is left?")),
    Turn("assistant", ("a circle",)),
    Turn("user", ("And right, ", PICTURE, " or ", PICTURE, "?")),
    Turn("assistant", ("nothing",)),
    Turn("user", ("Sure?",)),
]


def _text(segments: list[Segment]) -> str:
    return "".join("<image>" if segment == IMAGE else segment.text for segment in segments)


def test_writes_one_round() -> None:
    assert VisualChat().segments(ROUNDS[:2], TOKENIZER) == [
        Segment("content", f"{SYSTEM}\n\n### Image 1:\n"),
        IMAGE,
        Segment("content", "\n\n### Question:\nWhat is left?\n\n### Answer:\n"),
        Segment("content", "a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]


def test_numbers_images_over_the_whole_dialogue() -> None:
    # As TEMPLATE and image_mapping_dict of DeepSpeedExamples' DeepSpeed-VisualChat have it
    # (utils/data/DST.py): images of one turn are a line apart, a blank line follows the last.
    assert _text(VisualChat("").segments(ROUNDS, TOKENIZER)) == (
        "### Image 1:\n<image>\n\n### Question:\nWhat is left?\n\n### Answer:\na circle<|end|>"
        "### Image 2:\n<image>\n### Image 3:\n<image>\n\n"
        "### Question:\nAnd right,  or ?\n\n### Answer:\nnothing<|end|>"
        "### Question:\nSure?\n\n### Answer:\n"
    )


def test_a_system_turn_takes_the_place_of_the_paragraph() -> None:
    turns = [Turn("system", ("Look.",)), Turn("user", ("What?",))]
    text = _text(VisualChat().segments(turns, TOKENIZER))
    assert text == "Look.\n\n### Question:\nWhat?\n\n### Answer:\n"


def test_writes_new_tokens() -> None:
    tokens = ["### Image", "### Question:", "### Answer:"]
    tokenizer = train_bpe(["a"], 258)
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    prompt = VisualChat("", markers="tokens")
    assert prompt.new_tokens == tuple(tokens)
    assert prompt.segments(ROUNDS[:2], tokenizer) == [
        Segment("markup", "### Image"),
        Segment("content", " 1:\n"),
        IMAGE,
        Segment("content", "\n\n"),
        Segment("markup", "### Question:"),
        Segment("content", "\nWhat is left?\n\n"),
        Segment("markup", "### Answer:"),
        Segment("content", "\n"),
        Segment("content", "a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]
