from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import IMAGE, QwenVL, Segment, read_boxes, write_box

PICTURE = ImageContent("picture.png")
TOKENS = ["<|im_start|>", "<|im_end|>", "<img>", "</img>"]
PLAIN = train_bpe(["what color is it? it is red"], 300)
TOKENIZER = train_bpe(["what color is it? it is red"], 300)
TOKENIZER.add_special_tokens({"additional_special_tokens": TOKENS})
ROUNDS = [
    Turn("user", (PICTURE, "\nWhat is left?")),
    Turn("assistant", ("a circle",)),
    Turn("user", ("And in ", PICTURE, "?")),
]


def _text(segments: list[Segment]) -> str:
    return "".join("{image}" if segment == IMAGE else segment.text for segment in segments)


def test_writes_one_round() -> None:
    assert QwenVL().segments(ROUNDS[:2], TOKENIZER) == [
        Segment("markup", "<|im_start|>"),
        Segment("content", "system\nYou are a helpful assistant."),
        Segment("markup", "<|im_end|>"),
        Segment("content", "\n"),
        Segment("markup", "<|im_start|>"),
        Segment("content", "user\nPicture 1: "),
        Segment("markup", "<img>"),
        IMAGE,
        Segment("markup", "</img>"),
        Segment("content", "\nWhat is left?"),
        Segment("markup", "<|im_end|>"),
        Segment("content", "\n"),
        Segment("markup", "<|im_start|>"),
        Segment("content", "assistant\n"),
        Segment("content", "a circle", supervised=True),
        Segment("markup", "<|im_end|>", supervised=True),
    ]


def test_numbers_pictures_over_the_whole_dialogue_and_leaves_them_in_place() -> None:
    assert _text(QwenVL("").segments(ROUNDS, TOKENIZER)) == (
        "<|im_start|>user\nPicture 1: <img>{image}</img>\nWhat is left?<|im_end|>\n"
        "<|im_start|>assistant\na circle<|im_end|>\n"
        "<|im_start|>user\nAnd in Picture 2: <img>{image}</img>\n?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_end_of_text_ends_an_answer_among_words() -> None:
    prompt = QwenVL("Look.", markers="words")
    assert prompt.new_tokens == ()
    assert prompt.segments(ROUNDS[:2], PLAIN) == [
        Segment(
            "content",
            "<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\nPicture 1: <img>",
        ),
        IMAGE,
        Segment("content", "</img>\nWhat is left?<|im_end|>\n<|im_start|>assistant\n"),
        Segment("content", "a circle", supervised=True),
        Segment("markup", "<|end|>", supervised=True),
    ]
    assert prompt.stop_ids(PLAIN) == [PLAIN.eos_token_id]


def test_stops_at_the_end_of_a_turn_and_of_the_text() -> None:
    prompt = QwenVL()
    assert prompt.new_tokens == tuple(TOKENS)
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert prompt.stop_ids(TOKENIZER) == [end, TOKENIZER.eos_token_id]
    chat = train_bpe(["a"], 258)
    chat.add_special_tokens({"additional_special_tokens": TOKENS, "eos_token": "<|im_end|>"})
    assert prompt.stop_ids(chat) == [chat.eos_token_id]
    chat.eos_token = None
    assert prompt.stop_ids(chat) == [chat.convert_tokens_to_ids("<|im_end|>")]


def test_a_box_in_an_answer_comes_back_from_its_ids() -> None:
    tokenizer = train_bpe(["a"], 258)
    tags = ["<ref>", "</ref>", "<box>", "</box>"]
    tokenizer.add_special_tokens({"additional_special_tokens": [*TOKENS, *tags]})
    answer = "<ref>a dog</ref>" + write_box((8, 0, 32, 64), size=(64, 64))
    turns = (Turn("user", (PICTURE, "Where is the dog?")), Turn("assistant", (answer,)))
    processor = Processor(tokenizer, QwenVL(), (4, 4), 2, "stretch", (0, 0, 0), max_length=999)
    encoded = processor.encode(Conversation("a", turns))
    said = processor.decode([label for label in encoded.labels if label != IGNORED])
    assert said == "<ref>a dog</ref><box>(125,0),(500,1000)</box>"
    assert read_boxes(said, size=(64, 64)) == [(8, 0, 32, 64)]
