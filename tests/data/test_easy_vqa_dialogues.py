from collections import Counter

import easy_vqa
import numpy as np
import pytest
from PIL import Image

from lit_vlm.conversation import BoxContent
from lit_vlm.data import EasyVQA, EasyVQABoxes, EasyVQADescriptions, EasyVQAPairs
from lit_vlm.data.easy_vqa_boxes import shape_box
from lit_vlm.data.easy_vqa_facts import Facts, picture_facts
from lit_vlm.data.sources import ConversationSource

DRAWN = {
    *((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0)),
    *((128, 128, 128), (165, 42, 42), (0, 128, 128)),
}


@pytest.fixture(scope="module")
def facts() -> dict[str, Facts]:
    return {fact.path: fact for fact in picture_facts("test")}


@pytest.fixture(scope="module")
def pairs() -> EasyVQAPairs:
    source = EasyVQAPairs("test")
    source.prepare()
    return source


def _fact(source: ConversationSource, index: int, facts: dict[str, Facts]) -> Facts:
    (image,) = source[index].images
    return facts[str(image.source)]


def test_each_picture_is_described_by_what_is_known_of_it(facts: dict[str, Facts]) -> None:
    source = EasyVQADescriptions("test")
    source.prepare()
    assert (len(source), source.num_left_out) == (988, 12)
    for index in range(len(source)):
        fact = _fact(source, index, facts)
        question, answer = source[index].turns
        assert question.text == "Describe the image in English:"
        words = answer.text.split()
        assert words[0] == "a"
        assert words[-1] == (fact.shape or "shape")
        assert words[1:-1] == ([fact.color] if fact.color else [])
    assert len(source.lengths()) == 988


def test_the_question_can_be_chosen(facts: dict[str, Facts]) -> None:
    source = EasyVQABoxes("test", question="<ref>{phrase}</ref>")
    source.prepare()
    fact = _fact(source, 5, facts)
    assert fact.color
    assert fact.shape
    assert source[5].turns[0].text == f"<ref>the {fact.color} {fact.shape}</ref>"
    with pytest.raises(
        ValueError, match=r"EasyVQABoxes: question must hold \{phrase\}, .*'Where\?'"
    ):
        EasyVQABoxes("test", question="Where?")


def test_the_answer_to_where_is_a_box() -> None:
    source = EasyVQABoxes("test")
    source.prepare()
    assert len(source) == 988
    (image,) = source[0].images
    (box,) = source[0].turns[1].content
    assert box == BoxContent(shape_box(str(image.source)))
    assert source[0].turns[0].text.startswith("Where is the ")


def _check_box(path: str) -> None:
    """Check a box by other means: the corners' colour, and the nearer of two colours."""
    pixels = np.asarray(Image.open(path)).astype(int)
    corners = Counter(tuple(pixels[y, x].tolist()) for y in (0, -1) for x in (0, -1))
    [(ground, _)] = corners.most_common(1)
    dark = [color for color in map(tuple, pixels.reshape(-1, 3).tolist()) if min(color) < 200]
    [(shape, _)] = Counter(dark).most_common(1)
    assert min(ground) >= 230
    assert shape in DRAWN
    to_ground = np.linalg.norm(pixels - ground, axis=2)
    to_shape = np.linalg.norm(pixels - shape, axis=2)
    left, top, right, bottom = map(int, shape_box(path))
    outside = np.ones((64, 64), dtype=bool)
    outside[top:bottom, left:right] = False
    assert not (outside & (to_shape < 0.9 * to_ground)).any()
    outside[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = False
    assert not to_ground[outside].any()  # two pixels from the box, nothing is tinted
    inside = (to_shape < 1.1 * to_ground)[top:bottom, left:right]
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_boxes_are_tight() -> None:
    for path in list(easy_vqa.get_test_image_paths().values())[::20]:
        _check_box(path)


@pytest.mark.slow
def test_all_boxes_are_tight() -> None:
    for paths in (easy_vqa.get_train_image_paths(), easy_vqa.get_test_image_paths()):
        for path in paths.values():
            _check_box(path)


def test_pairs_tell_the_truth_about_both_pictures(
    pairs: EasyVQAPairs, facts: dict[str, Facts]
) -> None:
    for index in range(len(pairs)):
        one, other = (facts[str(image.source)] for image in pairs[index].images)
        question, answer = (turn.text for turn in pairs[index].turns)
        *_, last = question.rstrip("?").split()
        if last in ("color", "shape"):
            same = getattr(one, last) == getattr(other, last)
            assert question == f"Do image 1 and image 2 show the same {last}?"
            assert answer == ("yes" if same else "no")
        else:
            shown = [last in (fact.color, fact.shape) for fact in (one, other)]
            assert shown == [answer == "image 1", answer == "image 2"]


def test_each_picture_is_in_one_pair_and_answers_are_balanced(pairs: EasyVQAPairs) -> None:
    keys = {pairs.image_keys(i) for i in range(len(pairs))}
    assert len(keys) == 444
    assert len({key for pair in keys for key in pair}) == 2 * 444
    answers = Counter(
        pairs[i].turns[1].text for i in range(len(pairs)) if "color?" in pairs[i].turns[0].text
    )
    assert 0.4 < answers["yes"] / answers.total() < 0.6
    which = Counter(pairs[i].turns[1].text for i in range(len(pairs)))
    assert 0.4 < which["image 1"] / (which["image 1"] + which["image 2"]) < 0.6


def test_a_seed_always_makes_the_same_pairs(pairs: EasyVQAPairs) -> None:
    again, other = EasyVQAPairs("test"), EasyVQAPairs("test", seed=1)
    again.prepare()
    other.prepare()
    assert [again[i] for i in range(50)] == [pairs[i] for i in range(50)]
    assert [other[i] for i in range(50)] != [pairs[i] for i in range(50)]


def test_a_picture_has_one_key_in_all_sources(pairs: EasyVQAPairs) -> None:
    questions, descriptions = EasyVQA("test"), EasyVQADescriptions("test")
    keys: list[dict[str, int]] = []
    for source in (questions, descriptions, pairs):
        source.prepare()
        found: dict[str, int] = {}
        for index in range(0, len(source), 1 if source is questions else 20):
            images = [str(image.source) for image in source[index].images]
            found.update(zip(images, source.image_keys(index), strict=True))
        keys.append(found)
    everything = keys[0]
    assert len(everything) == 1000
    assert all(found.items() <= everything.items() for found in keys)
