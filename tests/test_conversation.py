from pathlib import Path

from PIL import Image

from lit_vlm.conversation import BoxContent, Conversation, ImageContent, Turn, place_boxes

FIRST, SECOND = ImageContent("a.png"), ImageContent(Path("b.png"))
USER = Turn("user", ("left ", FIRST, "or ", SECOND, "?"))
ANSWER = Turn("assistant", ("left",))


def test_a_turns_text_is_its_words() -> None:
    assert USER.text == "left or ?"
    assert Turn("user", (FIRST,)).text == ""


def test_images_are_in_reading_order() -> None:
    picture = ImageContent(Image.new("RGB", (1, 1)))
    dialogue = Conversation("1", (USER, ANSWER, Turn("user", (picture, "and this?"))))
    assert dialogue.images == (FIRST, SECOND, picture)


def test_is_named_by_place_and_id() -> None:
    assert Conversation("7", (USER,)).name == "sample '7'"
    assert Conversation("7", (USER,), "a.json:3").name == "a.json:3 (sample '7')"


def test_dialogues_are_equal_wherever_they_were_read() -> None:
    assert Conversation("7", (USER,), "a.json:3") == Conversation("7", (USER,), "b.jsonl:9")


def test_splits_the_last_answer_off() -> None:
    dialogue = Conversation("7", (USER, ANSWER, USER, Turn("assistant", ("yes",))), "a.json:3")
    before, answer = dialogue.until_answer()
    assert answer == "yes"
    assert before.turns == (USER, ANSWER, USER)
    assert (before.id, before.where) == ("7", "a.json:3")


def test_a_dialogue_that_waits_for_an_answer_has_none() -> None:
    dialogue = Conversation("7", (USER, ANSWER, USER))
    assert dialogue.until_answer() == (dialogue, "")
    assert Conversation("7", ()).until_answer() == (Conversation("7", ()), "")


def test_a_box_reads_in_pixels_until_it_is_written() -> None:
    turn = Turn("assistant", ("at ", BoxContent((1, 2.5, 30, 40))))
    assert turn.text == "at <box>(1,2.5),(30,40)</box>"
    before, answer = Conversation("1", (USER, turn), answers=("there",)).until_answer()
    assert answer == turn.text
    assert before.answers == ("there",)


def test_boxes_are_placed_in_the_last_image_before_them() -> None:
    box, named = BoxContent((0, 0, 1, 1)), BoxContent((0, 0, 1, 1), 1)
    turns = (Turn("user", (FIRST, box, named, SECOND, box)), Turn("assistant", (box,)))
    placed = place_boxes(turns, "sample '1'")
    images = [part.image for t in placed for part in t.content if isinstance(part, BoxContent)]
    assert images == [0, 1, 1, 1]
    assert place_boxes(placed, "sample '1'") == placed
    assert place_boxes((USER, ANSWER), "sample '1'") == (USER, ANSWER)
