import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import Batch, ConversationDataModule, JSONConversations
from lit_vlm.data.sources import Subset
from lit_vlm.data.splitting import shared_images
from lit_vlm.language_models.base import IGNORED
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.processing import Processor
from lit_vlm.prompts import Plain

TOKENIZER = train_bpe(["color number? it is red"], 280)
PROCESSOR = Processor(TOKENIZER, Plain(), (4, 4), 2, "stretch", (7, 8, 9), max_length=80)
Write = Callable[[list[bool]], Path]


def _module(**options: Any) -> ConversationDataModule:
    module = ConversationDataModule(**options)
    module.processor = PROCESSOR
    return module


def _ids(batches: Any) -> list[list[str]]:
    return [[reference.dialogue.id for reference in batch.references] for batch in batches]


def _equal(one: Batch, other: Batch) -> bool:
    assert one.inputs is not None
    assert other.inputs is not None
    return (
        one.references == other.references
        and torch.equal(one.images, other.images)
        and torch.equal(one.inputs.input_ids, other.inputs.input_ids)
        and torch.equal(one.inputs.labels, other.inputs.labels)
    )


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12
def test_worker_processes_change_nothing(color_questions: Write) -> None:
    source = JSONConversations(color_questions([i % 3 != 0 for i in range(10)]))
    epochs = []
    for workers in (0, 2):
        module = _module(train=source, batch_size=4, num_workers=workers)
        module.setup("fit")
        loader = module.train_dataloader()
        epochs.append([list(loader), list(loader)])
    for alone, shared in zip(*epochs, strict=True):
        assert len(alone) == len(shared) == 3
        assert all(_equal(one, other) for one, other in zip(alone, shared, strict=True))
    assert _ids(epochs[0][0]) != _ids(epochs[0][1])


def test_evaluates_in_order_and_once_for_each_probe(color_questions: Write) -> None:
    module = _module(test=JSONConversations(color_questions([True] * 5)), batch_size=2)
    module.setup("test")
    loaders = module.test_dataloader()
    assert len(loaders) == 3
    for loader in loaders:
        assert _ids(loader) == [["sample-0", "sample-1"], ["sample-2", "sample-3"], ["sample-4"]]
    real, shuffled, blank = (torch.cat([batch.images for batch in loader]) for loader in loaders)
    assert not any(torch.equal(*pair) for pair in zip(real, shuffled, strict=True))
    assert {tuple(image[:, 0, 0].tolist()) for image in blank} == {(7, 8, 9)}
    without = _module(test=module.sources["test"], probes=[], eval_batch_size=5)
    without.setup("test")
    assert len(without.test_dataloader()) == 1


def test_predicts_from_prompts_alone(write_jsonl: Callable[..., Path]) -> None:
    records = [{"id": i, "messages": [{"role": "user", "content": f"{i}?"}]} for i in range(3)]
    module = _module(predict=JSONConversations(write_jsonl(records)), batch_size=2)
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert _ids(batches) == [["0", "1"], ["2"]]
    assert all(batch.inputs is None and batch.prompts is not None for batch in batches)


def test_holds_images_out_of_training(color_questions: Write) -> None:
    source = JSONConversations(color_questions([True] * 16))
    module = _module(train=source, val=0.25, batch_size=4)
    module.setup("fit")
    train, val = module.sources["train"][0], module.sources["val"][0]
    assert (len(train), len(val)) == (12, 4)  # of four pictures with four questions each
    assert shared_images(train, val) == 0
    module.setup("validate")
    again = module.sources["val"][0]
    assert isinstance(val, Subset)
    assert isinstance(again, Subset)
    assert again.source is source
    assert again.indices == val.indices
    assert len(list(module.val_dataloader())) == 1


def test_warns_of_images_on_both_sides(color_questions: Write) -> None:
    path = color_questions([True] * 3)
    module = _module(train=JSONConversations(path), val=JSONConversations(path))
    with pytest.warns(UserWarning, match=r"^3 images are in the training and in the validation"):
        module.setup("fit")


def test_holds_images_out_for_a_selection_besides(color_questions: Write) -> None:
    source = JSONConversations(color_questions([True] * 16))
    module = _module(train=source, val=0.25, selection=0.25, batch_size=4)
    alone = _module(train=source, val=0.25, batch_size=4)
    for made in (module, alone):
        made.setup("fit")
    train, val, selection = (module.sources[name][0] for name in ("train", "val", "selection"))
    assert (len(train), len(val), len(selection)) == (8, 4, 4)
    assert shared_images(train, selection) == shared_images(val, selection) == 0
    assert _ids(module.val_dataloader()) == _ids(alone.val_dataloader())
    held = _ids(module.selection_dataloader())
    module.setup("selection")
    assert _ids(module.selection_dataloader()) == held
    later = _module(train=source, val=0.25, selection=0.25, batch_size=4)
    later.setup("selection")
    assert _ids(later.selection_dataloader()) == held


def test_a_selection_alone_may_be_a_share(color_questions: Write, tmp_path: Path) -> None:
    source = JSONConversations(color_questions([True] * 16))
    module = _module(train=source, selection=0.25, batch_size=4)
    module.setup("validate")
    assert isinstance(module.sources["train"][0], JSONConversations)  # nothing to carve
    module.setup("fit")
    assert [len(module.sources[name]) for name in ("train", "val", "selection")] == [1, 0, 1]
    assert shared_images(module.sources["train"][0], module.sources["selection"][0]) == 0


def test_warns_of_images_that_also_choose_the_checkpoint(color_questions: Write) -> None:
    path = color_questions([True] * 16)
    sources = {name: JSONConversations(path) for name in ("train", "selection")}
    module = _module(**sources, val=0.25, batch_size=4)
    with (
        pytest.warns(UserWarning, match="^3 images are in the training and in the selection data"),
        pytest.warns(UserWarning, match="^1 images are in the validation and in the selection"),
    ):
        module.setup("fit")


def test_joins_rounds_about_one_image(color_questions: Write) -> None:
    source = JSONConversations(color_questions([True] * 10))
    module = _module(train=source, batch_size=100, rounds_per_sample=2)
    module.setup("fit")
    (batch,) = module.train_dataloader()
    # Ten questions about four pictures: three, three, two and two.
    assert len(batch) == 2 + 2 + 1 + 1
    assert len(batch.images) == 6
    assert batch.inputs is not None
    ends = batch.inputs.labels == TOKENIZER.eos_token_id
    assert sorted(ends.sum(1).tolist()) == [1, 1, 2, 2, 2, 2]


def test_like_lengths_are_batched_over_several_sources(write_jsonl: Callable[..., Path]) -> None:
    def source(name: str, repeats: list[int]) -> JSONConversations:
        records = [
            {
                "messages": [
                    {"role": "user", "content": "a?" * n},
                    {"role": "assistant", "content": "no"},
                ]
            }
            for n in repeats
        ]
        return JSONConversations(write_jsonl(records, name))

    sources = [source("a.jsonl", [1, 20, 2, 19]), source("b.jsonl", [18, 3, 17, 4])]
    module = _module(train=sources, batch_size=4, group_by_length=True)
    module.setup("fit")
    widths = [batch.inputs.input_ids.shape[1] for batch in module.train_dataloader()]
    longest = ("a?" * 4 + "\nno<|end|>", "a?" * 20 + "\nno<|end|>")
    assert sorted(widths) == [len(TOKENIZER(text).input_ids) for text in longest]


def _skipping(write_jsonl: Callable[..., Path], ceiling: int) -> JSONConversations:
    records = [
        {
            "id": f"s-{i}",
            "messages": [
                {"role": "user", "content": "a?"},
                {"role": "assistant", "content": "no" if i % 3 else ""},
            ],
        }
        for i in range(6)
    ]
    return JSONConversations(write_jsonl(records), on_bad_sample="skip", max_skipped=ceiling)


def _give_trainer(module: ConversationDataModule, folder: Path) -> None:
    trainer: Any = SimpleNamespace(
        world_size=1,
        global_rank=0,
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        validating=False,
        default_root_dir=str(folder),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        limit_val_batches=1.0,
        limit_train_batches=1.0,
    )
    module.trainer = trainer


def test_skipped_samples_are_written_down_once(
    tmp_path: Path, write_jsonl: Callable[..., Path]
) -> None:
    module = _module(train=_skipping(write_jsonl, ceiling=2), batch_size=2)
    _give_trainer(module, tmp_path)
    module.setup("fit")
    loader = module.train_dataloader()
    for _ in range(3):
        for batch in loader:
            assert module.on_before_batch_transfer(batch, 0) is batch
            assert batch.inputs is not None
            assert (batch.inputs.labels != IGNORED).any(1).all()
    lines = (tmp_path / "skipped-train.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["sample"] for line in lines) == [0, 3]
    assert all("an answer must have text" in line for line in lines)


def test_stops_above_the_ceiling(tmp_path: Path, write_jsonl: Callable[..., Path]) -> None:
    module = _module(train=_skipping(write_jsonl, ceiling=1), batch_size=6)
    _give_trainer(module, tmp_path)
    module.setup("fit")
    (batch,) = module.train_dataloader()
    with pytest.raises(BadSampleError, match=r"more than max_skipped=1 samples .*skipped-train"):
        module.on_before_batch_transfer(batch, 0)


def test_yields_the_texts_to_train_a_tokenizer_on(color_questions: Write) -> None:
    module = _module(train=JSONConversations(color_questions([True, False])))
    module.setup("fit")
    texts = list(module.training_texts())
    assert texts == ["color number 0?", "red", "color number 1?", "it is green"]


def test_asks_for_a_source() -> None:
    module = _module()
    message = r"ConversationDataModule: train must have a source, got none\. Give --data\.train, or"
    with pytest.raises(ValueError, match=message):
        module.train_dataloader()


def test_asks_how_the_model_reads_its_inputs(color_questions: Write) -> None:
    module = ConversationDataModule(train=JSONConversations(color_questions([True])))
    module.setup("fit")
    with pytest.raises(ValueError, match=r"NoneType has no processor\. Set datamodule\.processor"):
        module.train_dataloader()


@pytest.mark.parametrize("name", ["batch_size", "rounds_per_sample", "eval_batch_size"])
def test_refuses_numbers_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least 1, got 0\."):
        _module(**{name: 0})


def test_refuses_a_share_too_small_to_hold_an_image(color_questions: Write) -> None:
    module = _module(train=JSONConversations(color_questions([True] * 4)), val=0.01)
    with pytest.raises(
        ValueError, match=r"val must leave images on both sides, got the share 0\.01"
    ):
        module.setup("fit")


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_refuses_a_share_that_leaves_nothing_on_one_side(share: float) -> None:
    for name in ("val", "selection"):
        message = f"{name} must be a source, or a share of the training images between 0 and 1, got"
        with pytest.raises(ValueError, match=f"{message} {share}"):
            _module(**{name: share})
