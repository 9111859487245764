from collections.abc import Callable
from pathlib import Path

import torch

from lit_vlm.data import Batch, JSONConversations
from lit_vlm.data.datasets import ConversationDataset
from lit_vlm.data.loaders import BatchLoader, batch_loader
from lit_vlm.data.sampling import BatchSampler, Slot
from lit_vlm.model import VisionLanguageModel


def loader(model: VisionLanguageModel, path: Path, num_workers: int = 0) -> BatchLoader:
    source = JSONConversations(path)
    source.prepare()
    dataset = ConversationDataset([source], model.processor, "train")
    slots = [Slot((i,)) for i in range(len(dataset))]
    sampler = BatchSampler(lambda epoch: slots, batch_size=2)
    return batch_loader(dataset, sampler, num_workers, seed=0, pin_memory=False)


def test_yields_whole_batches(
    tiny_model: Callable[..., VisionLanguageModel], color_questions: Callable[[list[bool]], Path]
) -> None:
    batches = list(loader(tiny_model(), color_questions([True] * 5)))
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [len(batch) for batch in batches] == [2, 2, 1]


def test_iterating_draws_nothing_from_the_generator_of_dropout(
    tiny_model: Callable[..., VisionLanguageModel], color_questions: Callable[[list[bool]], Path]
) -> None:
    batches = loader(tiny_model(), color_questions([True] * 4))
    before = torch.get_rng_state()
    assert len(list(batches)) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_tells_lightning_that_it_can_resume(
    tiny_model: Callable[..., VisionLanguageModel], color_questions: Callable[[list[bool]], Path]
) -> None:
    from lightning.fabric.utilities.types import _Stateful

    batches = loader(tiny_model(), color_questions([True]))
    assert isinstance(batches, _Stateful)
    batches.load_state_dict(batches.state_dict())
    assert len(list(batches)) == 1
