from lit_vlm.conversation import ImageContent, Turn
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.prompts import IMAGE, QwenVLPretraining, Segment

A, B = ImageContent("a.png"), ImageContent("b.png")
TOKENIZER = train_bpe(["a"], 258)
TOKENIZER.add_tokens(["<img>", "</img>"], special_tokens=True)
END = Segment("markup", "<|end|>", supervised=True)


def _text(*turns: Turn) -> str:
    written = QwenVLPretraining(markers="words").segments(turns, TOKENIZER)
    return "".join("{image}" if segment == IMAGE else segment.text for segment in written)


def test_writes_a_caption_as_the_papers_appendix_does() -> None:
    turns = [
        Turn("user", (A, "\nGenerate the caption in English:")),
        Turn("assistant", ("the beautiful flowers for design.",)),
    ]
    assert QwenVLPretraining().segments(turns, TOKENIZER) == [
        Segment("markup", "<img>"),
        IMAGE,
        Segment("markup", "</img>"),
        Segment("content", "Generate the caption in English:"),
        Segment("content", " the beautiful flowers for design.", supervised=True),
        END,
    ]


def test_a_box_follows_its_phrase_at_once() -> None:
    asked = Turn("user", (A, "<ref>the ear on a giraffe</ref>"))
    answer = Turn("assistant", ("<box>(176,106),(232,160)</box>",))
    expected = (
        "<img>{image}</img><ref>the ear on a giraffe</ref><box>(176,106),(232,160)</box><|end|>"
    )
    assert _text(asked, answer) == expected


def test_writes_several_images_and_rounds_in_their_places() -> None:
    turns = (
        Turn("system", ("Look.",)),
        Turn("user", (A, B, "\nSame? Answer:")),
        Turn("assistant", ("no",)),
        Turn("user", ("Sure? Answer:",)),
    )
    assert _text(*turns) == (
        "Look.\n<img>{image}</img><img>{image}</img>Same? Answer: no<|end|>Sure? Answer:"
    )


def test_the_tokens_around_a_picture_can_be_words() -> None:
    assert QwenVLPretraining().new_tokens == ("<img>", "</img>")
    assert QwenVLPretraining(markers="words").new_tokens == ()
