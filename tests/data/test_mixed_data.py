"""Runs whose sources are mixed by weights, in stages and without."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, Trainer

from lit_vlm.callbacks import RNGState, Stage, StagedFreezing
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.language_models.tokenizers import train_bpe
from lit_vlm.model import VisionLanguageModel
from lit_vlm.processing import Processor
from lit_vlm.prompts import LLaVAV1, Plain, QuestionAnswer

TOKENIZER = train_bpe(["color number? it is red"], 280)
PROCESSOR = Processor(TOKENIZER, Plain(), (4, 4), 2, "stretch", (7, 8, 9), max_length=80)
MakeData = Callable[..., ConversationDataModule]
MakeModel = Callable[..., VisionLanguageModel]
STAGES = {
    "align": Stage(trains=["connector"], data={"few": 2.0, "many": 1.0}, batch_size=2, epochs=1),
    "tune": Stage(trains=["connector"], temperature=2, accumulate_grad_batches=2, steps=4),
    "all": Stage(trains=["connector"], data=["many"], steps=2),
}


class Reader(Callback):
    """Keep which samples each batch held."""

    def __init__(self, save_at: int | None = None, to: Path | None = None) -> None:
        self.rows: list[list[int]] = []
        self.save_at = save_at
        self.to = to

    def on_train_batch_end(self, trainer: Trainer, *unused: Any) -> None:
        batch = unused[2]
        self.rows.append([int(r.dialogue.id.split("-")[1]) for r in batch.references])
        if trainer.global_step == self.save_at and not trainer.fit_loop._should_accumulate():
            assert self.to is not None
            trainer.save_checkpoint(self.to)


@pytest.fixture
def make_data(color_questions: Callable[[list[bool]], Path], tmp_path: Path) -> MakeData:
    """Sixteen dialogues in two sources: 0 to 3 are few, 4 to 15 many; every third has no image."""

    def make(**options: Any) -> ConversationDataModule:
        path = color_questions([i % 3 > 0 for i in range(16)])
        lines = path.read_text().splitlines(keepends=True)
        for name, part in (("few", lines[:4]), ("many", lines[4:])):
            (tmp_path / f"{name}.jsonl").write_text("".join(part))
        sources = {name: JSONConversations(tmp_path / f"{name}.jsonl") for name in ("few", "many")}
        return ConversationDataModule(sources, **{"batch_size": 4, **options})

    return make


@pytest.fixture
def fit(
    tiny_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> Callable[..., tuple[list[list[int]], list[Any]]]:
    """Train; return the samples of each batch, and what ``mixture.json`` says."""

    def fit(
        reader: Reader,
        checkpoint: Path | None = None,
        stages: dict[str, Stage] = {},  # noqa: B006
        data: dict[str, Any] = {},  # noqa: B006
        **options: Any,
    ) -> tuple[list[list[int]], list[Any]]:
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            limit_val_batches=0,
            default_root_dir=str(tmp_path),
            callbacks=[StagedFreezing(stages, save_stages=False), RNGState(), reader],
            **{"max_epochs": -1, **options},
        )
        trainer.fit(tiny_model(), make_data(**data), ckpt_path=checkpoint)
        record = tmp_path / "mixture.json"
        written = json.loads(record.read_text())["mixtures"] if record.exists() else []
        return reader.rows, written

    return fit


def delivered(mixture: dict[str, Any]) -> dict[str, int]:
    return {source["name"]: source["delivered_rows"] for source in mixture["sources"]}


def counts(rows: list[list[int]]) -> dict[str, int]:
    few = sum(sample < 4 for batch in rows for sample in batch)
    return {"few": few, "many": sum(map(len, rows)) - few}


@pytest.mark.parametrize("limit", [1.0, 3])
def test_a_run_has_the_shares_and_goes_on_where_it_stopped(
    fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: int | float
) -> None:
    options = {"data": {"weights": {"few": 2, "many": 3}}, "limit_train_batches": limit}
    whole, [mixture] = fit(Reader(6, tmp_path / "6.ckpt"), max_epochs=4, **options)
    rows = 4 * (16 if limit == 1.0 else 12)
    assert counts(whole) == delivered(mixture)
    assert abs(counts(whole)["few"] - rows * 2 / 5) < 1
    seen = Counter(sample for batch in whole for sample in batch)
    assert len(seen) == 16
    assert max(seen[i] for i in range(4)) - min(seen[i] for i in range(4)) <= 1
    assert max(seen[i] for i in range(4, 16)) - min(seen[i] for i in range(4, 16)) <= 1
    table = capsys.readouterr().out
    assert table.count("rows a pass") == 2  # the title's, and a column's
    assert "40.00%" in table
    resumed, [again] = fit(Reader(), tmp_path / "6.ckpt", max_epochs=4, **options)
    assert resumed == whole[6:]
    assert again == mixture


def test_what_drop_last_leaves_out_comes_in_the_next_pass(fit: Any) -> None:
    data = {"weights": {"few": 1, "many": 3}, "batch_size": 5, "drop_last": True}
    whole, [mixture] = fit(Reader(), data=data, max_epochs=4)
    assert [len(batch) for batch in whole] == [5] * 12
    assert counts(whole) == delivered(mixture) == {"few": 15, "many": 45}
    assert mixture["rows_per_pass"] == 15
    seen = Counter(sample for batch in whole for sample in batch)
    assert {seen[i] for i in range(4)} == {3, 4}
    assert {seen[i] for i in range(4, 16)} == {3, 4}


@pytest.mark.parametrize("stopped_at", [3, 8, 10, 12, 13])
def test_each_stage_has_a_mixture_of_its_own_and_resumes(
    fit: Any, tmp_path: Path, stopped_at: int
) -> None:
    whole, mixtures = fit(Reader(stopped_at, tmp_path / "stopped.ckpt"), stages=STAGES)
    # align: 8 batches of 2; tune: 4 steps of 2 batches of 4; all: 2 batches of 4.
    parts = {"align": whole[:8], "tune": whole[8:16], "all": whole[16:]}
    assert [len(batch) for batch in whole] == [2] * 8 + [4] * 10
    assert [mixture["stage"] for mixture in mixtures] == ["align", "tune"]
    for mixture in mixtures:
        assert delivered(mixture) == counts(parts[mixture["stage"]])
    for name, share in (("align", 2 / 3), ("tune", 2 / (2 + 12**0.5)), ("all", 0)):
        rows = 0
        for batch in parts[name]:
            rows += len(batch)
            few = sum(sample < 4 for sample in sum(parts[name], [])[:rows])
            assert abs(few - share * rows) < 1
    resumed, again = fit(Reader(), tmp_path / "stopped.ckpt", stages=STAGES)
    done = stopped_at if stopped_at < 9 else 8 + 2 * (stopped_at - 8) - max(0, stopped_at - 12)
    assert resumed == whole[done:]
    assert again == mixtures


def test_named_sources_alone_are_told_too(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, [mixture] = fit(Reader(), max_steps=1)
    assert [source["share"] for source in mixture["sources"]] == [0.25, 0.75]
    assert "delivered_rows" not in mixture["sources"][0]
    assert "75.00%" in capsys.readouterr().out


def test_held_out_shares_keep_the_names(make_data: MakeData) -> None:
    module = make_data(val=0.25, weights={"few": 1, "many": 1}, probes=[])
    module.processor = PROCESSOR
    module.setup("fit")
    held = [batch.references for batch in module.val_dataloader()]
    names = {r.dialogue.id: r.source for references in held for r in references}
    assert {int(id_.split("-")[1]) < 4 for id_, name in names.items() if name == "few"} == {True}
    assert set(names.values()) == {"few", "many"}
    trained = [r for batch in module.train_dataloader() for r in batch.references]
    assert {r.dialogue.id for r in trained}.isdisjoint(names)
    assert abs(Counter(r.source for r in trained)["few"] - len(trained) / 2) < 1


@pytest.mark.parametrize("weights", [None, {"few": 1, "many": 1}])
def test_batches_hold_images_or_none(make_data: MakeData, weights: Any) -> None:
    module = make_data(group_by_modality=True, batch_size=2, weights=weights)
    module.processor = PROCESSOR
    module.setup("fit")
    for _ in range(2):
        batches = [
            [len(r.dialogue.images) for r in b.references] for b in module.train_dataloader()
        ]
        assert sum(map(len, batches)) == 16
        # Only what is left of each kind is mixed, and comes last.
        assert all(len(set(batch)) == 1 for batch in batches[:-1])
        assert {tuple(set(batch)) for batch in batches[:-1]} == {(0,), (1,)}


def test_training_reads_as_the_stage_says_and_validation_as_the_model_does(
    tiny_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    stage = Stage(
        trains=["connector"], prompt=QuestionAnswer(), resize="stretch", max_length=50, steps=1
    )
    model = tiny_model(resize="crop")
    data = make_data(val=0.25)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        default_root_dir=str(tmp_path),
        enable_checkpointing=False,
        log_every_n_steps=1,
        callbacks=[StagedFreezing({"align": stage}, save_stages=False)],
        **options,  # type: ignore[arg-type]
    )
    trainer.fit(model, data)
    loader: Any = trainer.train_dataloader
    trained = loader.dataset.processor
    assert isinstance(trained.prompt, QuestionAnswer)
    assert (trained.resize, trained.max_length) == ("stretch", 50)
    own = model.processor
    validated = trainer.val_dataloaders.dataset.processor  # type: ignore[union-attr]
    for read in (own, validated):
        assert isinstance(read.prompt, Plain)
        assert (read.resize, read.max_length) == ("crop", own.max_length)
    assert own.max_length != 50
    tokenizer: Any = model.language_model.tokenizer
    batch = next(iter(loader))
    texts = tokenizer.batch_decode(batch.inputs.input_ids)
    assert all("Question: color number" in text for text in texts)


def test_refuses_a_stage_prompt_whose_tokens_the_model_lacks(
    tiny_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    stage = Stage(trains=["connector"], prompt=LLaVAV1(markers="tokens"), steps=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=str(tmp_path),
        callbacks=[StagedFreezing({"align": stage})],
    )
    with pytest.raises(ValueError, match="LLaVAV1: the tokenizer must have the special tokens"):
        trainer.fit(tiny_model(), make_data())


def test_refuses_shares_that_mean_nothing(make_data: MakeData) -> None:
    with pytest.raises(ValueError, match="ConversationDataModule: weights must be of the training"):
        make_data(weights={"few": 1, "mny": 2})
    with pytest.raises(ValueError, match="ConversationDataModule: shares must be given once"):
        make_data(weights={"few": 1, "many": 2}, temperature=2)
    with pytest.raises(ValueError, match="ConversationDataModule: temperature must be positive"):
        make_data(temperature=0)
    source = JSONConversations("a.jsonl")
    with pytest.raises(ValueError, match="of training sources with names, got"):
        ConversationDataModule([source, source], weights={"a": 1})
