import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vlm.metrics import CIDEr


def cider(generated: list[str], references: list[list[str]]) -> CIDEr:
    metric = CIDEr("whitespace")
    metric.update(generated, references, range(len(generated)))
    return metric


captions = st.lists(st.sampled_from("a red big dog cat sits here".split()), max_size=9).map(
    " ".join
)
images = st.lists(
    st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), min_size=2, max_size=6
)


@settings(max_examples=100, deadline=None)
@given(images)
def test_equals_pycocoevalcap(images: list[tuple[str, list[str]]]) -> None:
    oracle: Any = pytest.importorskip(
        "pycocoevalcap.cider.cider",
        reason="pycocoevalcap is not installed: pip install --no-deps pycocoevalcap==1.2",
        exc_type=ImportError,
    )
    generated, references = [text for text, _ in images], [refs for _, refs in images]
    results = {i: [text] for i, text in enumerate(generated)}
    if not any(text.split() for refs in references for text in refs):
        return  # it fails without any word
    mean, scores = oracle.Cider().compute_score(dict(enumerate(references)), results)
    metric = cider(generated, references)
    assert float(metric.compute()) == pytest.approx(float(mean), abs=1e-6)
    assert metric.item_scores["cider"] == pytest.approx(scores.tolist(), abs=1e-9)


def test_by_hand() -> None:
    """Two images: "red" and "blue" are in one each, "circle" in both, and so worth nothing."""
    metric = cider(["red circle", "circle"], [["red circle"], ["blue circle"]])
    # Words: the vector of "red" equals itself; bigrams: so does "red circle"; none longer.
    assert float(metric.compute()) == pytest.approx((10 * 2 / 4 + 0) / 2)


def test_the_penalty_is_for_lengths_in_bigrams() -> None:
    metric = cider(["red a b c", "x"], [["red"], ["x"]])
    metric.compute()
    # Of four words, of which only the first is there: log(2) for "red", log(2) for each other one.
    likeness = math.log(2) ** 2 / (math.log(2) * math.sqrt(4) * math.log(2)) / 4
    assert metric.item_scores["cider"][0] == pytest.approx(
        10 * likeness * math.exp(-(3**2) / (2 * 6**2))
    )


def test_the_reference_itself_scores_ten_only_if_all_references_are_alike() -> None:
    long = ["a dog runs far away", "the cat sleeps all day"]
    alike = cider(long, [[text, text] for text in long])
    assert float(alike.compute()) == pytest.approx(10)
    several = cider(long, [[long[0], "a dog"], [long[1], "cats"]])
    assert float(several.compute()) < 10


def test_one_image_scores_nothing_and_says_so() -> None:
    metric = cider(["a dog"], [["a dog"]])
    with pytest.warns(UserWarning, match=r"CIDEr: one image scores 0.*Score more images"):
        assert float(metric.compute()) == 0


def test_counts_each_image_once_in_the_order_of_the_data() -> None:
    metric = CIDEr()
    metric.update(["A cat.", "A dog!"], [["a cat"], ["a dog", "dogs"]], [3, 1])
    metric.update(["a cat"], ["a cat"], [3])
    metric.compute()
    assert metric.items == [1, 3]
    assert metric.num_items == 2
    # "a cat" has a word and a pair of words that are rare, and no longer n-gram.
    assert metric.item_scores["cider"][1] == pytest.approx(5)


def test_texts_of_any_script_come_through() -> None:
    texts = ['赤い "丸" \\ \x00 é', "bleu 🙂 \ud800 x"]
    metric = cider(texts, [[text] for text in texts])
    metric.compute()
    assert metric.item_scores["cider"] == pytest.approx([10.0, 10.0])


def test_without_samples_is_not_a_number() -> None:
    metric = CIDEr()
    metric.update([], [], [])
    assert math.isnan(float(metric.compute()))
    assert metric.num_items == 0


def test_merges_what_several_ranks_hold() -> None:
    """A rank's bytes are filled up with zeros, and its places with -1."""
    one, other = cider(["a dog"], [["a dog"]]), CIDEr("whitespace")
    other.update(["the cat", "x"], [["the cat"], ["y"]], [1, 2])
    whole = cider([], [])
    filled = torch.nn.functional.pad(one.texts, (0, len(other.texts) - len(one.texts)))
    whole.texts = torch.stack([filled, other.texts])
    whole.indices = torch.stack([torch.tensor([-1, 0, -1]), other.indices])
    together = cider(["a dog", "the cat", "x"], [["a dog"], ["the cat"], ["y"]])
    assert float(whole.compute()) == float(together.compute())
    assert whole.num_items == 3


def test_refuses_an_image_without_captions() -> None:
    with pytest.raises(ValueError, match=r"CIDEr: each sample must have a caption, got none\."):
        CIDEr().update(["a"], [[]], [0])
