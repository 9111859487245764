import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.data.collation import Reference
from lit_vlm.predictions import Prediction

PICTURES = (
    ImageContent("a.png"),
    ImageContent(Path("b.png")),
    ImageContent(Image.new("L", (1, 1))),
)
DIALOGUE = Conversation(
    "s-1",
    (
        Turn("user", (*PICTURES[:2], "What?")),
        Turn("assistant", ("This.",)),
        Turn("user", ("Quelle couleur, à gauche de ", PICTURES[2], "?")),
    ),
)


def _reference(answer: str) -> Reference:
    return Reference(index=5, dialogue=DIALOGUE, answer=answer, repeated=False)


def test_puts_a_generated_text_beside_its_reference() -> None:
    assert Prediction.of(_reference("red"), "Red.") == Prediction(
        index=5,
        id="s-1",
        images=("a.png", "b.png", "(in memory)"),
        question="Quelle couleur, à gauche de ?",
        answer="red",
        generated="Red.",
        correct=True,
    )
    assert Prediction.of(_reference("red"), "blue").correct is False


def test_without_an_answer_nothing_is_right_or_wrong() -> None:
    made = Prediction.of(_reference(""), "red")
    assert made.answer is None
    assert made.correct is None


def test_is_one_line_of_json_without_its_place() -> None:
    line = Prediction.of(_reference("rouge\nvif"), "\u2028rouge 🙂\n").to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "id": "s-1",
        "images": ["a.png", "b.png", "(in memory)"],
        "question": "Quelle couleur, à gauche de ?",
        "answer": "rouge\nvif",
        "generated": "\u2028rouge 🙂\n",
        "correct": False,
    }


def test_is_right_if_it_matches_any_of_several_answers_and_says_which_they_are() -> None:
    several = replace(_reference("red"), source="colors")
    several = replace(several, dialogue=replace(DIALOGUE, answers=("red", "scarlet")))
    made = Prediction.of(several, "Scarlet")
    assert made.correct is True
    assert made.accepted == ("red", "scarlet")
    row = json.loads(made.to_json())
    assert (row["source"], row["answer"], row["answers"]) == ("colors", "red", ["red", "scarlet"])
    only = Prediction.of(replace(several, answer=""), "blue")
    assert (only.answer, only.correct, only.accepted) == (None, False, ("red", "scarlet"))
    same = Prediction.of(replace(several, dialogue=replace(DIALOGUE, answers=("red",))), "red")
    assert (same.answers, same.accepted) == ((), ("red",))
