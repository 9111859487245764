import pytest

from lit_vlm.conversation import BadSampleError, BoxContent, Conversation, ImageContent, Turn
from lit_vlm.data.rounds import Rounds, chain_rounds

A, B, C = (ImageContent(f"{name}.png") for name in "abc")
Part = str | ImageContent | BoxContent


def _dialogue(name: str, *question: Part, answer: Part = "yes") -> Conversation:
    turns = (Turn("user", question), Turn("assistant", (answer,)))
    return Conversation(name, turns, f"{name}.json:1", (f"answer {name}",))


def test_rounds_follow_each_other_and_show_their_images() -> None:
    chained = chain_rounds(
        [
            Rounds(_dialogue("one", A, "\nRed?"), (0,)),
            Rounds(_dialogue("two", "Blue?", B), (1,)),
        ]
    )
    assert chained == Conversation(
        "one+two",
        (
            Turn("user", (A, "\nRed?")),
            Turn("assistant", ("yes",)),
            Turn("user", ("Blue?", B)),
            Turn("assistant", ("yes",)),
        ),
        answers=("answer two",),
    )
    assert chained.where == "one.json:1"


def test_an_image_is_shown_once() -> None:
    parts = [
        Rounds(_dialogue("one", A, "\nRed?"), (0,)),
        Rounds(_dialogue("again", A, "\nSure?"), (0,)),
        Rounds(_dialogue("both", A, B, "\nIs image 2 like image 1?"), (0, 1)),
    ]
    turns = chain_rounds(parts).turns
    assert turns[2].content == ("Sure?",)
    assert turns[4].content == (B, "\nIs image 2 like image 1?")
    assert chain_rounds(parts).images == (A, B)


def test_an_image_among_the_words_leaves_its_number_there() -> None:
    parts = [
        Rounds(_dialogue("one", A, "Red?"), (0,)),
        Rounds(_dialogue("two", "Left ", A, " or right ", B, "?"), (0, 1)),
        Rounds(_dialogue("three", A, " and ", B, ": same?"), (0, 1)),
    ]
    turns = chain_rounds(parts).turns
    assert turns[2].content == ("Left ", "image 1", " or right ", B, "?")
    assert turns[4].text == "image 1 and image 2: same?"


def test_an_image_that_stood_alone_leaves_its_number() -> None:
    parts = [
        Rounds(_dialogue("one", A, "Red?"), (0,)),
        Rounds(_dialogue("alone", A, "\n"), (0,)),
        Rounds(_dialogue("new", A, B), (0, 1)),
        Rounds(_dialogue("both", A, "\n", B, "\n", A, " "), (0, 1, 0)),
    ]
    turns = chain_rounds(parts).turns
    assert turns[2].content == ("image 1",)
    assert turns[4].content == (B,)
    assert turns[6].content == ("image 1, image 2, image 1",)


def test_a_last_question_without_an_answer_is_dropped_where_others_follow() -> None:
    one, two = _dialogue("one", A, "Red?"), _dialogue("two", B, "Blue?")
    asking = Conversation("one", (*one.turns, Turn("user", ("And?",))), "one.json:1")
    chained = chain_rounds([Rounds(asking, (0,)), Rounds(two, (1,))])
    assert chained.turns == (*one.turns, *two.turns)
    assert chain_rounds([Rounds(two, (1,)), Rounds(asking, (0,))]).turns[-1].text == "And?"
    showing = Conversation("w", (*one.turns, Turn("user", (B, "?"))), "w.json:2")
    with pytest.raises(
        BadSampleError, match=r"w\.json:2 .*must end with an answer, got the user's"
    ):
        chain_rounds([Rounds(showing, (0, 1)), Rounds(two, (1,))])


def test_numbers_and_boxes_follow_their_images() -> None:
    box = (1, 2, 3, 4)
    parts = [
        Rounds(_dialogue("one", A, "Red?"), (0,)),
        Rounds(_dialogue("stranger", C, "In image 1?", answer=BoxContent(box)), (1,)),
        Rounds(_dialogue("pair", A, B, "Image 1 or 2?", answer="The second image."), (0, 2)),
        Rounds(_dialogue("box", A, BoxContent(box), B, "?", answer=BoxContent(box)), (0, 2)),
    ]
    chained = chain_rounds(parts)
    assert chained.images == (A, C, B)
    assert chained.turns[2].content == (C, "In image 2?")
    assert chained.turns[3].content == (BoxContent(box, 1),)
    assert chained.turns[4].content == (B, "Image 1 or 3?")
    assert chained.turns[5].content == ("The third image.",)
    assert BoxContent(box, 0) in chained.turns[6].content
    assert chained.turns[7].content == (BoxContent(box, 2),)


def test_only_a_first_system_turn_stays() -> None:
    def instructed(words: str) -> Conversation:
        turns = (Turn("system", (words,)), *_dialogue("a", A, "?").turns)
        return Conversation("a", turns)

    chained = chain_rounds([Rounds(instructed("Be brief."), (0,)), Rounds(instructed("Go."), (1,))])
    assert [turn.role for turn in chained.turns].count("system") == 1
    assert chained.turns[0].text == "Be brief."


def test_refuses_a_dialogue_that_does_not_fit() -> None:
    one = _dialogue("one", A, "Red?")
    waiting = Conversation("w", one.turns[:1], "w.json:2")
    with pytest.raises(
        BadSampleError, match=r"w\.json:2 .*must end with an answer, got the user's"
    ):
        chain_rounds([Rounds(waiting, (0,)), Rounds(one, (1,))])
    assert chain_rounds([Rounds(one, (0,)), Rounds(waiting, (1,))]).turns[-1].role == "user"
    with pytest.raises(BadSampleError, match=r"one\.json:1 .*must show 2 images, .* got 1\."):
        chain_rounds([Rounds(one, (0, 1))])
