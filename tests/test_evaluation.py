from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch.testing import assert_close

from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel


def validate(
    make: Callable[..., VisionLanguageModel], path: Path, folder: Path, **options: Any
) -> Any:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **options,
    )
    data = ConversationDataModule(val=JSONConversations(path), batch_size=2)
    [figures] = trainer.validate(make(), data, verbose=False)
    return figures


def test_figures_are_those_of_all_samples_however_ranks_share_them(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    two_ranks: Callable[..., list[Any]],
    tmp_path: Path,
) -> None:
    """Seven samples with answers of one to five tokens; the second rank has three of them."""
    path = color_questions([True] * 7)
    one = validate(tiny_model, path, tmp_path, devices=1)
    assert one["val/accuracy_samples"] == 7
    data = ConversationDataModule(val=JSONConversations(path), batch_size=7)
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
