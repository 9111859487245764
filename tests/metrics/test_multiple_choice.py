import pytest

from lit_vlm.metrics import MultipleChoice
from lit_vlm.metrics.multiple_choice import read_choice, read_options

QUESTION = (
    "What is it?\nA. a dog\nB. a big cat\n(C) U.S. flag\nD) none of these\nAnswer with the letter."
)


def test_reads_options_from_the_lines_of_a_question() -> None:
    options = {"A": "a dog", "B": "a big cat", "C": "U.S. flag", "D": "none of these"}
    assert read_options(QUESTION) == options
    assert read_options("Is it A. or B.?") == {}
    assert read_options("What? Options: A. x\nB. y") == {"A": "x", "B": "y"}
    assert read_options("Options:\n(A) x\n(B) y") == {"A": "x", "B": "y"}
    assert read_options("Options: (A) x (B) y") == {}  # in one line: any letter will do


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("(c)", "C"),
        ("**D**", "D"),
        ("B. a big cat", "B"),
        ("(B) something else", "B"),
        ("B) a big cat", "B"),
        ("B: a big cat", "B"),
        ("B\na big cat", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B), since ...", "B"),
        ("Answer: B", "B"),
        ("I choose option B", "B"),
        ("It must be (B).", "B"),
        ("Neither (A) nor (B)", None),
        ("(A) or (B)", None),
        ("A. or B.", None),
        ("(A) is too small, hence (B)", None),
        ("A. a dog\nB. a big cat", None),
        ("The answer is A or B.", None),
        ("Option A or option B", None),
        ("The answer is A. No, the answer is B.", None),
        ("A. a dog. The answer is B.", None),
        ("B. a big cat. The answer is B.", "B"),
        ("The answer is B and I am sure", "B"),
        ("The answer is option B", "B"),
        ("Option A is wrong, the answer is B", "B"),
        ("(A) is wrong, the answer is (B)", "B"),
        ("(A) is wrong, (B) is right", "B"),
        ("Option A is wrong", None),
        ("(A) is not right.", None),
        ("Option A is not right, but option B is", "B"),
        ("a big cat", "B"),
        ("A big cat.", "B"),
        ("U.S. flag", "C"),
        ("The answer is a dog", None),
        ("A tiger", None),
        ("E", None),
        ("", None),
    ],
)
def test_reads_the_option_that_a_text_names(text: str, letter: str | None) -> None:
    assert read_choice(text, read_options(QUESTION)) == letter


def test_without_options_any_letter_will_do() -> None:
    assert read_choice("E", {}) == "E"
    assert read_choice("a dog", {}) is None


def test_is_the_share_of_right_options() -> None:
    metric = MultipleChoice()
    metric.update(
        ["(B)", "a dog", "E", "cat"], ["B", "A. a dog", "A", "B"], range(4), [QUESTION] * 4
    )
    assert float(metric.compute()) == 0.5
    letters = MultipleChoice()
    letters.update(["The answer is B"], ["B"], [0])
    assert float(letters.compute()) == 1


def test_refuses_an_answer_that_names_no_option() -> None:
    with pytest.raises(ValueError, match=r"must name an option, got 'cat' for the options ABCD\."):
        MultipleChoice().update(["B"], ["cat"], [0], [QUESTION])
    with pytest.raises(ValueError, match=r"got 'cat' for the options none\."):
        MultipleChoice().update(["B"], ["cat"], [0])
