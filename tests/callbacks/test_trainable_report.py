from collections.abc import Callable
from pathlib import Path

import pytest
from lightning import Trainer

from lit_vlm.callbacks import Freeze, TrainableReport
from lit_vlm.callbacks.trainable_report import trainable_rows
from lit_vlm.data import ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel


def test_tells_what_trains_before_the_first_step(
    tiny_model: Callable[..., VisionLanguageModel],
    color_questions: Callable[[list[bool]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_model(learning_rate=0.02, weight_decay=0.3)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=str(tmp_path),
        callbacks=[Freeze(["encoder"]), TrainableReport()],
    )
    data = ConversationDataModule(train=JSONConversations(color_questions([True] * 2)))
    trainer.fit(model, data)
    eye, fusion, connector, voice = trainable_rows(trainer, model)
    count = sum(p.numel() for p in model.encoder.parameters())
    assert eye == ("encoder", "TimmEncoder", f"{count:,}", "0", "float32", "-", "-")
    assert fusion == ("fusion", "PickLevel", "0", "0", "-", "-", "-")
    count = sum(p.numel() for p in model.connector.parameters())
    assert connector[2:] == (f"{count:,}", f"{count:,}", "float32", "0.02", "0.3, 0")
    assert voice[5:] == ("0.02", "0.3, 0")
    assert "what trains" in capsys.readouterr().out
