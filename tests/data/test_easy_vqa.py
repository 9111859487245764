from pathlib import Path

import easy_vqa
import pytest
from PIL import Image

from lit_vlm.conversation import ImageContent
from lit_vlm.data import EasyVQA


@pytest.mark.parametrize(
    ("split", "questions", "pictures"), [("train", 38_575, 4_000), ("test", 9_673, 1_000)]
)
def test_has_as_many_questions_as_its_paper_says(split: str, questions: int, pictures: int) -> None:
    source = EasyVQA("train" if split == "train" else "test")
    source.prepare()
    assert len(source) == questions
    assert len({source.image_keys(i) for i in range(questions)}) == pictures
    every = range(0, questions, 10)
    assert {source[i].turns[1].text for i in every} == set(easy_vqa.get_answers())
    assert len(easy_vqa.get_answers()) == 13


def test_reads_one_question_about_one_picture() -> None:
    source = EasyVQA("test")
    source.prepare()
    questions, answers, images = easy_vqa.get_test_questions()
    dialogue = source[17]
    question, answer = dialogue.turns
    assert (question.role, question.text) == ("user", questions[17])
    assert (answer.role, answer.text) == ("assistant", answers[17])
    (picture,) = dialogue.images
    path = Path(easy_vqa.get_test_image_paths()[images[17]])
    assert picture == ImageContent(str(path))
    with Image.open(path) as image:
        assert image.size == (64, 64)
    assert dialogue.name == "easy-VQA test (sample 'test-17')"
    assert int(source.lengths()[17]) == len(questions[17]) + len(answers[17])


def test_questions_about_one_picture_share_its_key() -> None:
    source = EasyVQA("test")
    source.prepare()
    images = easy_vqa.get_test_questions()[2]
    other = next(i for i in range(len(images)) if images[i] != images[0])
    same = next(i for i in range(1, len(images)) if images[i] == images[0])
    assert source.image_keys(0) == source.image_keys(same) != source.image_keys(other)
