import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch.testing import assert_close

from lit_vlm.callbacks import AnswerReport
from lit_vlm.class_names import import_class
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.metrics import ANLS, CIDEr, ExactMatch, VQAAccuracy
from lit_vlm.model import VisionLanguageModel


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **options,
    )


def validate(
    make: Callable[..., VisionLanguageModel], path: Path, folder: Path, **options: Any
) -> Any:
    trainer = quiet_trainer(folder, **options)
    data = ConversationDataModule(
        val={"names": JSONConversations(path), "again": JSONConversations(path)},
        batch_size=2,
        metrics={"names": [ANLS(0.0), ExactMatch()], "again": CIDEr()},
    )
    [figures] = trainer.validate(make(), data, verbose=False)
    return figures


def test_figures_are_those_of_all_samples_however_ranks_share_them(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    two_ranks: Callable[..., list[Any]],
    tmp_path: Path,
) -> None:
    """Seven samples, twice, with answers of one to five tokens; ranks have different numbers."""
    path = color_questions([True] * 7)
    one = validate(tiny_model, path, tmp_path, devices=1)
    assert one["val/accuracy_samples"] == 14
    assert 0 < one["val/names/anls"] < 1
    sizes = {name: value for name, value in one.items() if name.endswith("_samples")}
    sizes.pop("val/accuracy_samples")
    assert sizes == {
        "val/names/anls_samples": 7,
        "val/names/exact_match_samples": 7,
        "val/again/cider_samples": 7,
    }
    data = ConversationDataModule(val=[JSONConversations(path)] * 2, batch_size=14)
    model = tiny_model()
    data.processor = model.processor
    data.setup("validate")
    [batch] = data.val_dataloader()
    loss = model(batch)
    assert_close(
        one["val/loss"], float((loss.total / loss.num_tokens).detach()), rtol=1e-5, atol=1e-5
    )

    def job() -> Any:
        return validate(tiny_model, path, tmp_path, devices=2, strategy="ddp")

    for figures in two_ranks(job):
        assert_close(torch.tensor(list(figures.values())), torch.tensor(list(one.values())))


def test_a_test_scores_each_source_with_its_probes_and_writes_all_answers_down(
    tiny_model: Callable[..., VisionLanguageModel],
    pictures: dict[str, Path],
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, said = tiny_model(), []
    for name, answers in (("vqa", ["it"] * 3 + ["is"] * 7), ("plain", [])):
        turns = [
            {"from": "human", "value": "<image>color number?"},
            {"from": "gpt", "value": "it is red"},
        ]
        record = {"id": name, "image": str(pictures["red"]), "conversations": turns}
        said.append(write_jsonl([{**record, "answers": answers}] * 2, f"{name}.jsonl"))
    data = ConversationDataModule(
        test={"vqa": JSONConversations(said[0]), "plain": JSONConversations(said[1])},
        batch_size=3,
        probes=["blank"],
        metrics={"vqa": VQAAccuracy()},
    )
    report = AnswerReport(tmp_path / "predictions.jsonl")
    trainer = quiet_trainer(tmp_path, devices=1, callbacks=[report])
    figures: dict[str, float] = {}
    for found in trainer.test(model, data, verbose=False):
        figures.update(found)
    assert {name for name in figures if "/vqa/" in name or "/plain/" in name} == {
        "test/vqa/vqa_accuracy",
        "test/vqa/vqa_accuracy_samples",
        "test/vqa/vqa_accuracy_blank",
        "test/vqa/vqa_accuracy_blank_samples",
    }
    assert figures["test/vqa/vqa_accuracy_samples"] == 2
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["vqa", "vqa", "plain", "plain"]
    assert rows[0]["answers"] == ["it"] * 3 + ["is"] * 7
    assert "answers" not in rows[2]
    metric = VQAAccuracy()
    metric.update(
        [row["generated"] for row in rows[:2]], [row["answers"] for row in rows[:2]], [0, 1]
    )
    assert figures["test/vqa/vqa_accuracy"] == pytest.approx(float(metric.compute()))
    printed = capsys.readouterr().out
    assert "vqa_accuracy" in printed
    assert "blank" in printed


def test_answers_of_people_are_scored_without_a_loss(
    tiny_model: Callable[..., VisionLanguageModel],
    pictures: dict[str, Path],
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
) -> None:
    turns = [{"from": "human", "value": "<image>color number?"}]
    asked = {"image": str(pictures["red"]), "conversations": turns, "answers": ["it", "is"]}
    told = {**asked, "conversations": [*turns, {"from": "gpt", "value": "it is red"}]}
    losses = []
    for name, records in (("asked", [asked] * 2), ("told", [told]), ("both", [told, asked])):
        path = write_jsonl(records, f"{name}.jsonl")
        data = ConversationDataModule(test=JSONConversations(path), batch_size=2, probes=[])
        trainer = quiet_trainer(tmp_path, devices=1)
        [figures] = trainer.test(tiny_model(), data, verbose=False)
        assert figures["test/accuracy_samples"] == len(records)
        losses.append(figures.get("test/loss"))
    assert losses[0] is None
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)


def test_chosen_metrics_come_back_from_a_record_and_without_names_are_for_all(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    tmp_path: Path,
) -> None:
    source = JSONConversations(color_questions([True] * 3))
    data = ConversationDataModule(val=source, metrics=[ANLS(0.25), VQAAccuracy("always")])
    record = data.init_config["init_args"]["metrics"]
    rebuilt = [import_class(part["class_path"])(**part["init_args"]) for part in record]
    assert [part["init_args"] for part in record] == [{"threshold": 0.25}, {"normalize": "always"}]
    again = ConversationDataModule(val=source, metrics=rebuilt)
    [figures] = quiet_trainer(tmp_path, devices=1).validate(tiny_model(), again, verbose=False)
    assert figures["val/anls_samples"] == figures["val/vqa_accuracy_samples"] == 3


def test_refuses_metrics_of_a_source_that_there_is_not(
    color_questions: Callable[[list[bool]], Path],
) -> None:
    source = JSONConversations(color_questions([True]))
    with pytest.raises(ValueError, match=r"metrics: .* got 'vqq'\. Did you mean: vqa\?"):
        ConversationDataModule(val={"vqa": source}, metrics={"vqq": ANLS()})
