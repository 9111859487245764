"""What holds for sources made of others, in a data module and in a model's run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.data import ConcatenatedConversations, ConversationDataModule, JSONConversations
from lit_vlm.model import VisionLanguageModel
from lit_vlm.prompts import PlainBoxes

Questions = Callable[[list[bool]], Path]


@pytest.fixture
def module(color_questions: Questions) -> ConversationDataModule:
    """A data module of chained dialogues about four pictures, a quarter of which is held out."""
    inside = JSONConversations(color_questions([True] * 16))
    return ConversationDataModule(
        train=ConcatenatedConversations(inside, most=2), val=0.25, batch_size=2
    )


def test_a_second_setup_holds_the_same_out(module: ConversationDataModule) -> None:
    made = []
    for _ in range(2):
        module.prepare_data()
        module.setup("fit")
        (train,), (val,) = module.sources["train"], module.sources["val"]
        keys = [{k for i in range(len(s)) for k in s.image_keys(i)} for s in (train, val)]
        assert (len(keys[0]), len(keys[1])) == (3, 1)
        assert not keys[0] & keys[1]
        made.append([source[i].id for source in (train, val) for i in range(len(source))])
    assert made[0] == made[1]


def test_can_be_rebuilt_from_its_record(module: ConversationDataModule) -> None:
    record = module.init_config["init_args"]["train"]
    assert record["class_path"].endswith("ConcatenatedConversations")
    assert record["init_args"]["source"]["class_path"].endswith("JSONConversations")
    assert record["init_args"]["most"] == 2


def test_the_models_boxes_are_its_processors(
    tiny_model: Callable[..., VisionLanguageModel],
) -> None:
    model = tiny_model(boxes=PlainBoxes(2))
    assert model.processor.boxes.write((0, 0, 1, 1)) == "[0.00,0.00,1.00,1.00]"
    assert model.init_config["init_args"]["boxes"]["init_args"] == {"digits": 2}
    assert tiny_model().processor.boxes.write((0, 0, 1, 1)).startswith("<box>")
