import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lit_vlm.merging import merge_visual_tokens


def by_loop(embeddings: Tensor, is_visual: Tensor, visual: Tensor) -> Tensor:
    merged = embeddings.clone()
    tokens = iter([token for image in visual for token in image])
    for row in range(is_visual.shape[0]):
        for place in range(is_visual.shape[1]):
            if is_visual[row, place]:
                merged[row, place] = next(tokens)
    return merged


@settings(max_examples=50, deadline=None)
@given(data=st.data(), per_image=st.integers(1, 4))
def test_fills_the_places_in_reading_order(data: st.DataObject, per_image: int) -> None:
    images = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    texts = [data.draw(st.integers(0, 3)) for _ in images]
    length = max(1, max(n * per_image + t for n, t in zip(images, texts, strict=True)))
    is_visual = torch.zeros(len(images), length, dtype=torch.bool)
    for row, count in enumerate(images):
        places = data.draw(st.permutations(range(length)))[: count * per_image]
        is_visual[row, places] = True
    embeddings = torch.randn(len(images), length, 3)
    visual = torch.randn(sum(images), per_image, 3)
    expected = by_loop(embeddings, is_visual, visual)
    assert torch.equal(merge_visual_tokens(embeddings, is_visual, visual), expected)


def test_merges_by_hand() -> None:
    texts = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    is_visual = torch.tensor([[False, True, True], [True, False, True]])
    visual = torch.tensor([[[10.0], [20.0]], [[30.0], [40.0]]])
    merged = merge_visual_tokens(texts, is_visual, visual)
    assert merged.squeeze(-1).tolist() == [[1.0, 10.0, 20.0], [30.0, 5.0, 40.0]]
    assert texts[0, 1, 0] == 2.0, "the texts' own embeddings are left alone"


def test_gradients_reach_the_texts_and_the_images() -> None:
    texts = torch.randn(2, 4, 3, requires_grad=True)
    visual = torch.randn(2, 2, 3, requires_grad=True)
    is_visual = torch.tensor([[True, True, False, False], [False, True, False, True]])
    weights = torch.randn(2, 4, 3)
    torch.autograd.backward((merge_visual_tokens(texts, is_visual, visual) * weights).sum())
    assert texts.grad is not None
    assert visual.grad is not None
    assert_close(texts.grad, weights.masked_fill(is_visual[..., None], 0.0))
    assert_close(visual.grad.flatten(0, 1), weights[is_visual])


def test_visual_tokens_take_the_texts_precision() -> None:
    texts = torch.zeros(1, 2, 3, dtype=torch.bfloat16)
    merged = merge_visual_tokens(texts, torch.tensor([[True, False]]), torch.ones(1, 1, 3))
    assert merged.dtype == torch.bfloat16
    assert merged[0, 0].tolist() == [1.0] * 3


def test_texts_without_images_stay_as_they_are() -> None:
    texts = torch.randn(2, 4, 3)
    nowhere = torch.zeros(2, 4, dtype=torch.bool)
    assert torch.equal(merge_visual_tokens(texts, nowhere, torch.zeros(0, 5, 3)), texts)


@pytest.mark.parametrize(("images", "per_image"), [(1, 2), (2, 2), (0, 3)])
def test_refuses_counts_that_differ(images: int, per_image: int) -> None:
    is_visual = torch.tensor([[True, True, True, False]])
    message = rf"3 places .*, got {images * per_image} tokens \({images} images of {per_image}\)"
    with pytest.raises(ValueError, match=message):
        merge_visual_tokens(torch.zeros(1, 4, 3), is_visual, torch.zeros(images, per_image, 3))
