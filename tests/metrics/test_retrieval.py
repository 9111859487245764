import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.nn.functional import normalize

from lit_vlm.metrics import RetrievalRecall
from lit_vlm.metrics import retrieval as module


def vectors(rows: int, seed: int, width: int = 8) -> Tensor:
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn, dim=1)


def on_a_grid(rows: int, seed: int, width: int = 4) -> Tensor:
    """Vectors of -1, 0 and 1, whose products tie often and are exact."""
    drawn = torch.randint(-1, 2, (rows, width), generator=torch.Generator().manual_seed(seed))
    return drawn.float()


def texts_of(images: int, most: int, seed: int) -> Tensor:
    """For each text, its image; every image has one to ``most`` texts, in a mixed order."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, most + 1, (images,), generator=generator)
    owners = torch.arange(images).repeat_interleave(counts)
    return owners[torch.randperm(len(owners), generator=generator)]


def recalls(images: Tensor, texts: Tensor, owners: Tensor, **options: Any) -> dict[str, float]:
    metric = RetrievalRecall(**options)
    metric.update(images, torch.arange(len(images)), texts, owners)
    return {name: float(value) for name, value in metric.compute().items()}


def by_clip_benchmark(images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, float]:
    recall_at_k = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval").recall_at_k
    scores = texts @ images.T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(texts)), owners] = True
    found: dict[str, float] = {}
    for name, pairs, own in (
        ("image_to_text", scores.T, positive.T),
        ("text_to_image", scores, positive),
    ):
        for k in (1, 5, 10):
            hits: Any = recall_at_k(pairs, own.contiguous(), k) > 0
            found[f"{name}_r{k}"] = float(hits.float().mean())
    return found


def by_hand(images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, float]:
    """Sort each query's candidates one by one, the counterparts last of equals."""
    scores, found = (texts @ images.T).tolist(), {}
    owner = owners.tolist()
    there = [
        sorted((-scores[t][i], owner[t] == i) for t in range(len(texts)))
        for i in range(len(images))
    ]
    back = [
        sorted((-scores[t][i], owner[t] == i) for i in range(len(images)))
        for t in range(len(texts))
    ]
    for name, ranked in (("image_to_text", there), ("text_to_image", back)):
        for k in (1, 5, 10):
            hits = [any(own for _, own in row[:k]) for row in ranked]
            found[f"{name}_r{k}"] = sum(hits) / len(hits)
    return found


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_clip_benchmark_where_nothing_ties(most: int, seed: int) -> None:
    owners = texts_of(40, most, seed)
    images = vectors(40, seed)
    texts = normalize(images[owners] + 0.8 * vectors(len(owners), 100 + seed), dim=1)
    assert recalls(images, texts, owners) == pytest.approx(by_clip_benchmark(images, texts, owners))


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_sorting_by_hand_where_much_ties(most: int, seed: int) -> None:
    owners = texts_of(40, most, seed)
    images = on_a_grid(40, seed)
    texts = torch.where(torch.rand(len(owners), 1) < 0.5, images[owners], on_a_grid(len(owners), 9))
    expected = by_hand(images, texts, owners)
    assert recalls(images, texts, owners) == pytest.approx(expected)
    assert 0 < expected["text_to_image_r10"] < 1


def test_an_encoder_that_sees_no_difference_finds_nothing() -> None:
    same = vectors(1, 0).expand(30, -1)
    assert set(recalls(same, same, torch.arange(30)).values()) == {0.0}
    # To an order of ties by place, the first candidates would have been found.
    assert by_clip_benchmark(same, same, torch.arange(30))["text_to_image_r10"] > 0


def test_what_is_not_a_number_finds_nothing() -> None:
    images = vectors(20, 0)
    images[3] = torch.nan
    found = recalls(images, images, torch.arange(20))
    assert found["image_to_text_r1"] == 0  # its text stands before every other text
    assert set(recalls(images * torch.nan, images, torch.arange(20)).values()) == {0.0}


def test_any_of_an_images_texts_is_a_hit() -> None:
    images = torch.eye(3)
    texts = torch.tensor([[0.0, 1, 0], [0.9, 0, 0], [0, 0.5, 0], [0, 0, 1]])
    found = recalls(images, texts, torch.tensor([0, 0, 1, 2]), ks=[1, 2])
    assert found["image_to_text_r1"] == pytest.approx(2 / 3)  # image 1 finds a text of image 0
    assert found["image_to_text_r2"] == 1
    assert found["text_to_image_r1"] == pytest.approx(3 / 4)


def test_counts_an_image_of_several_batches_once_with_its_texts() -> None:
    owners = texts_of(20, 3, 0)
    images, texts = vectors(20, 1), vectors(len(owners), 2)
    metric = RetrievalRecall()
    for start in range(0, 20, 6):
        part = torch.arange(start, min(start + 6, 20))
        part = torch.cat([part, part[:1], torch.tensor([2])])  # repeated in and between batches
        held = torch.cat([(owners == i).nonzero()[:, 0] for i in part.tolist()])
        metric.update(images[part], part, texts[held], owners[held])
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(
        recalls(images, texts, owners)
    )
    assert (metric.num_images, metric.num_texts) == (20, len(owners))


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = texts_of(30, 3, 0)
    images, texts = vectors(30, 1), vectors(len(owners), 2)
    whole = recalls(images, texts, owners)
    monkeypatch.setattr(module, "_CELLS", 100)
    assert recalls(images, texts, owners) == whole


def test_images_without_texts_are_candidates_only() -> None:
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0, 0], [0, 0.5, 1]])
    found = recalls(images, texts, torch.tensor([0, 1]), ks=[1])
    assert found == {"image_to_text_r1": 1.0, "text_to_image_r1": 0.5}


def test_without_samples_is_not_a_number() -> None:
    metric = RetrievalRecall()
    nothing = torch.zeros(0, dtype=torch.long)
    metric.update(torch.zeros(0, 4), nothing, torch.zeros(0, 4), nothing)
    assert all(math.isnan(float(value)) for value in metric.compute().values())
    metric.reset()
    metric.update(vectors(4, 0), torch.arange(4), vectors(4, 0), torch.arange(4))
    assert float(metric.compute()["text_to_image_r1"]) == 1


def test_ranks_of_unlike_shares_find_what_one_process_does(
    two_ranks: Callable[..., list[Any]],
) -> None:
    owners = texts_of(20, 3, 0)
    images, texts = vectors(20, 1), vectors(len(owners), 2)

    def share(of: Tensor) -> dict[str, float]:
        metric = RetrievalRecall()
        held = torch.isin(owners, of)
        metric.update(images[of], of, texts[held], owners[held])
        return {name: float(value) for name, value in metric.compute().items()}

    def job() -> Any:
        rank = int(os.environ["LOCAL_RANK"])
        distributed.init_process_group("gloo", rank=rank, world_size=2)
        overlapping = share(torch.arange(12) if rank == 0 else torch.arange(9, 20))
        alone = share(torch.arange(20) if rank == 0 else torch.arange(0))
        distributed.destroy_process_group()
        return overlapping, alone

    one = share(torch.arange(20))
    for overlapping, alone in two_ranks(job):
        assert overlapping == pytest.approx(one)
        assert alone == pytest.approx(one)


def test_refuses_numbers_below_one() -> None:
    with pytest.raises(ValueError, match=r"ks must be numbers from 1 on, got \[0, 5\]\."):
        RetrievalRecall(ks=[0, 5])


@pytest.mark.parametrize("index", [[0, 1, 2], [0, 0, 1]])
def test_refuses_texts_without_their_image(index: list[int]) -> None:
    metric, owners = RetrievalRecall(), torch.tensor([0, 1, 5] if index[1] else [0, 0, 0])
    with pytest.raises(ValueError, match="texts must come in the same call as their image, and as"):
        metric.update(vectors(3, 0), torch.tensor(index), vectors(3, 1), owners)
