from lit_vlm.conversation import BoxContent, Conversation, ImageContent, Turn
from lit_vlm.viewing.pieces import ReadDialogue, Token, VisualTokens
from lit_vlm.viewing.terminal import counts_line, dialogue_lines, tokens_line


def read(*pieces: Token | VisualTokens) -> ReadDialogue:
    return ReadDialogue(pieces, ("A",), 1234, 256, 2, 3, 2048)


def test_is_legible_without_colour() -> None:
    line = tokens_line(
        read(
            VisualTokens(0, 256, 1, cut=False),
            Token(256, 5, "Q", supervised=False, cut=False),
            Token(257, 6, "\n", supervised=False, cut=False),
            Token(258, 7, "A", supervised=True, cut=False),
            Token(259, 8, "B", supervised=True, cut=False),
            Token(260, 5, "Q", supervised=False, cut=False),
            Token(261, 7, "C", supervised=True, cut=False),
            Token(262, 7, "D", supervised=True, cut=True),
            Token(263, 5, "Q", supervised=False, cut=True),
        )
    )
    assert line.plain == "[256 visual tokens of image 1]|Q|⏎|«A|B»|Q|«C»|~«D»~|~Q~"


def test_shows_the_first_of_what_is_cut_off() -> None:
    kept = Token(0, 5, "Q", supervised=False, cut=False)
    cut = [Token(place, 7, "C", supervised=True, cut=True) for place in range(1, 41)]
    first = "Q|~«" + "|".join("C" * 40) + "»~"
    assert tokens_line(read(kept, *cut)).plain == first
    image = VisualTokens(42, 256, 2, cut=True)
    line = tokens_line(read(kept, *cut, cut[0], image))
    assert line.plain == f"{first} ... and 257 more that are cut off"


def test_colours_what_is_learnt_and_what_is_cut_off() -> None:
    line = tokens_line(
        read(
            VisualTokens(0, 2, 1, cut=False),
            Token(2, 7, "A", supervised=True, cut=False),
            Token(3, 7, "B", supervised=True, cut=True),
        )
    )
    styles = {line.plain[span.start : span.end]: span.style for span in line.spans}
    assert styles["A"] == "bold green"
    assert styles["B"] == "strike red"
    assert styles["[2 visual tokens of image 1]"] == "cyan"


def test_counts() -> None:
    assert counts_line(read()) == (
        "1,234 tokens: 256 visual, 2 supervised; 3 cut off by max_length=2,048"
    )


def test_shows_the_turns_with_paths_and_boxes_in_place() -> None:
    turns = (
        Turn("user", (ImageContent("a.png"), "where? ", BoxContent((1, 2, 3, 4.5), 0))),
        Turn("assistant", ("there",)),
    )
    assert list(dialogue_lines(Conversation("1", turns))) == [
        "user: [a.png]where? <bbox>[1, 2, 3, 4.5]",
        "assistant: there",
    ]
