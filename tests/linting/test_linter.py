import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lit_vlm.linting.linter import FileReport, Linter

Sample = Callable[..., dict[str, Any]]
Check = Callable[..., FileReport]


def found(report: FileReport) -> list[tuple[str, int, str]]:
    return [(problem.kind, problem.line, problem.id) for problem in report.problems]


def test_counts_what_a_file_holds(check: Check, sample: Sample) -> None:
    more = [{"from": "human", "value": "and?"}, {"from": "gpt", "value": "one two three four"}]
    two = sample("2")
    two["conversations"] += more
    report = check([sample(), two, sample("3", None, "hello", "hi there"), "{broken"])
    assert (report.samples, report.images, report.rounds, report.text_only) == (4, 1, 4, 1)
    assert list(report.answer_words) == [3, 3, 4, 2]
    assert not report.asks_only


def test_goes_on_behind_bad_samples_and_broken_lines(check: Check, sample: Sample) -> None:
    lines = ["{broken", sample("2", answer=""), "7", "", sample("5", "none.png"), sample("6")]
    assert found(check(lines)) == [
        ("broken_line", 1, ""),
        ("empty_answer", 2, "2"),
        ("wrong_type", 3, "data-1"),
        ("missing_image", 5, "5"),
    ]


def test_finds_images_that_cannot_be_read_each_time_they_are_shown(
    check: Check, sample: Sample
) -> None:
    lines = [sample("1", "broken.png"), sample("2", "none.png"), sample("3", "none.png", "<image>")]
    assert found(check(lines, num_workers=2)) == [
        ("corrupt_image", 1, "1"),
        ("missing_image", 2, "2"),
        ("missing_image", 3, "3"),
    ]


def test_takes_ids_for_one_however_they_are_written(check: Check, sample: Sample) -> None:
    lines = [sample("7"), {**sample(), "id": 7, "image": "blue.png"}]
    lines += [sample("data-3", None, "hi"), sample(None, None, "hello")]
    report = check(lines)
    assert found(report) == [
        ("duplicate_id", 2, "7"),
        ("missing_id", 4, "data-3"),
        ("duplicate_id", 4, "data-3"),
    ]
    assert report.problems[0].message == "must have an id of its own, got that of line 1 (7)"


@pytest.mark.parametrize("form", ["list", "lines"])
def test_tells_samples_on_one_line_of_a_list_apart(
    form: str, write: Callable[..., Path], sample: Sample
) -> None:
    records = [sample("1"), sample("1", "blue.png")]
    path = write([json.dumps(records)] if form == "list" else records)
    [report] = Linter([path]).reports()
    assert found(report) == [("duplicate_id", 1 if form == "list" else 2, "1")]
    assert report.problems[0].index == 1
    place = "line 1, index 1 (1)" if form == "list" else "line 2 (1)"
    assert report.problems[0].place == place


def test_finds_boxes_outside_of_their_picture(check: Check, sample: Sample) -> None:
    boxes = {"in": [0, 0, 30, 20], "rounded": [-0.5, 0, 30.9, 20], "out": [0, 0, 31.5, 20]}
    boxes["beside"] = [30, 0, 30.9, 20]
    lines = [
        sample(name, question=f"<image> {name}", answer="at <bbox>", boxes=[box])
        for name, box in boxes.items()
    ]
    lines.append(sample("no image", None, "what", "at <bbox>", boxes=[[0, 0, 1, 1]]))
    report = check(lines)
    assert found(report) == [
        ("box_outside", 3, "out"),
        ("box_outside", 4, "beside"),
        ("refused", 5, "no image"),
    ]
    assert report.problems[0].message == (
        "a box must be inside image 1 of 30 x 20 pixels, got [0, 0, 31.5, 20]"
    )
    assert report.problems[2].message.startswith("a box must be in an image that stands before it")


def test_finds_boxes_in_the_image_that_the_sample_names(
    check: Check, folder: Path, sample: Sample
) -> None:
    Image.new("RGB", (30, 50)).save(folder / "tall.png")
    lines = [
        sample(
            str(image),
            question="<image><image> where?",
            answer="at <bbox>",
            boxes=[[0, 0, 25, 45]],
            box_images=[image],
        )
        for image in (0, 1)
    ]
    for line in lines:
        line["image"] = ["tall.png", "red.png"]
    report = check(lines)
    assert [kind for kind in found(report) if kind[0] != "contradiction"] == [
        ("box_outside", 2, "1")
    ]
    assert "inside image 2 of 30 x 20 pixels" in report.problems[0].message


def test_finds_pictures_of_the_test_files_under_any_path(
    write: Callable[..., Path], folder: Path, sample: Sample
) -> None:
    with Image.open(folder / "red.png") as red:
        red.save(folder / "copy.bmp")
    test = write([sample("t", "blue.png"), sample("u", "copy.bmp")], "test.jsonl")
    train = write([sample("1"), sample("2", None, "hi"), sample("3", "red.png", "<image>why?")])
    [report] = Linter([train], against=[test]).reports()
    assert found(report) == [("image_in_test", 1, "1"), ("image_in_test", 3, "3")]
    assert report.problems[0].message == (
        f"{folder}/red.png must not be in the test data, got it in {test}, line 2 (u), "
        f"as {folder}/copy.bmp"
    )


def test_says_where_a_picture_has_two_paths(check: Check, folder: Path, sample: Sample) -> None:
    shutil.copy(folder / "red.png", folder / "copy.png")
    report = check([sample("1"), sample("2", "copy.png", "<image>why?"), sample("3", "blue.png")])
    assert found(report) == [("same_image", 2, "2")]
    assert report.problems[0].message.endswith("/red.png shows, pixel for pixel")


def test_finds_other_answers_to_the_same_question_about_the_same_picture(
    check: Check, folder: Path, sample: Sample
) -> None:
    shutil.copy(folder / "red.png", folder / "copy.png")
    lines = [
        sample("1"),
        sample("2", "copy.png", answer="it is blue"),
        sample("3", "blue.png", answer="it is blue"),
        sample("4", question="<image>why?", answer="so"),
        sample("5", None, "hello", "hi"),
        sample("6", None, "hello", "good day"),
        sample("7", answer="it is red"),
    ]
    report = check(lines)
    assert found(report) == [
        ("contradiction", 2, "2"),
        ("repeated_sample", 7, "7"),
        ("same_image", 2, "2"),
    ]
    assert report.problems[0].message.startswith("line 1 (1) answers the same question about")


def test_takes_the_rounds_before_a_question_for_a_part_of_it(check: Check, sample: Sample) -> None:
    lines = [sample("1", answer="it is red"), sample("2", question="<image>where?", answer="here")]
    for line, answer in zip(lines, ("since it glows", "nowhere else fits"), strict=True):
        more = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": answer}]
        line["conversations"] += more
    assert found(check(lines)) == []


def test_takes_a_file_without_answers_for_questions(check: Check, sample: Sample) -> None:
    lines = [sample("1"), sample("2", "blue.png")]
    for line in lines:
        line["conversations"].pop()
    report = check(lines)
    assert (found(report), report.asks_only) == ([], True)
    assert found(check([*lines, sample("3")])) == [("no_answer", 1, "1"), ("no_answer", 2, "2")]


def test_says_that_a_file_is_empty(check: Check) -> None:
    report = check([""])
    assert (found(report), report.asks_only) == ([("no_samples", 0, "")], False)


def test_reads_images_from_a_root(check: Check, folder: Path, sample: Sample) -> None:
    (folder / "pictures").mkdir()
    (folder / "red.png").rename(folder / "pictures/red.png")
    assert found(check([sample()])) == [("missing_image", 1, "1")]
    assert found(check([sample()], image_root=folder / "pictures")) == []


def test_shows_how_far_it_has_come(check: Check, sample: Sample) -> None:
    seen = []

    def track(things: Any, what: str, total: int) -> Any:
        things = list(things)
        seen.append((what, total, len(things)))
        return things

    check([sample("1"), sample("2", "blue.png"), "{broken"], track=track)
    assert seen == [("pictures", 2, 2), ("data.jsonl", 3, 3)]
