from typing import Any

import pytest
from lightning import LightningDataModule

from lit_vlm.data import ConversationDataModule, EasyVQA
from lit_vlm.splits import has_split, validating_on


class Theirs(LightningDataModule):
    """Somebody else's data module."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def setup(self, stage: str) -> None:
        self.stages.append(stage)

    def teardown(self, stage: str) -> None:
        self.stages.append("end")

    def val_dataloader(self) -> Any:
        return "val"

    def test_dataloader(self) -> Any:
        return [self.val_dataloader(), "blank"]

    def odd_dataloader(self) -> Any:
        raise RuntimeError("odd")


def test_another_projects_splits_are_the_loaders_it_has() -> None:
    data = Theirs()
    assert [has_split(data, name) for name in ("val", "test", "selection", "predict")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not has_split(None, "test")


def test_ours_are_those_that_have_a_source_or_a_share() -> None:
    data = ConversationDataModule(test=EasyVQA("test"), selection=0.1)
    assert [has_split(data, name) for name in ("val", "test", "selection", "predict")] == [
        False, True, True, False,
    ]  # fmt: skip


def test_another_split_stands_in_for_validation() -> None:
    data = Theirs()
    with validating_on(data, "test"):
        data.setup("validate")
        assert data.val_dataloader() == "val"  # the first of the test's, which is validation's
        assert data.val_dataloader() == "val"
        data.teardown("validate")
        assert data.stages == ["test"]
    data.setup("fit")
    assert (data.stages, data.val_dataloader()) == (["test", "end", "fit"], "val")


def test_what_stood_in_goes_also_after_an_error() -> None:
    data = Theirs()
    with pytest.raises(RuntimeError, match="odd"), validating_on(data, "odd"):
        data.val_dataloader()
    assert data.val_dataloader() == "val"
