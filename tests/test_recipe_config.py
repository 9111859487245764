import copy
from typing import Any

import pytest

from lit_vlm.part_rates import PartLR
from lit_vlm.recipe import Curve
from lit_vlm.recipe_config import WHOLE_RUN, recipe_source
from lit_vlm.stages import Stage

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "lit_vlm.model.VisionLanguageModel",
        "init_args": {
            "fusion": {"class_path": "lit_vlm.fusions.PickLevel"},
            "learning_rate": 0.5,
            "warmup": 3,
            "schedule": "linear",
            "min_learning_rate": 0.1,
        },
    },
    "trainer": {"max_steps": -1, "max_epochs": None, "callbacks": None},
    "staged_freezing": {"stages": {}},
    "pretrained_lr": {"parts": {}},
}


@pytest.fixture
def config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


def callback(name: str, **options: Any) -> dict[str, Any]:
    return {"class_path": f"lit_vlm.callbacks.{name}", "init_args": options}


def test_a_config_without_stages_is_one_stage_in_which_all_trains(config: dict[str, Any]) -> None:
    source = recipe_source(config)
    assert source.parts == ["encoder", "connector", "language_model"]
    assert source.stages == {WHOLE_RUN: Stage(trains=["*"])}
    assert (source.learning_rate, source.curve) == (0.5, Curve(3, "linear", 0.1))
    assert (source.max_steps, source.max_epochs) == (None, None)


def test_what_freeze_names_is_frozen(config: dict[str, Any]) -> None:
    config["trainer"]["callbacks"] = [object(), callback("Freeze", parts=["encoder"])]
    assert recipe_source(config).stages[WHOLE_RUN].keeps_frozen == ["encoder"]


def test_stages_and_rates_are_found_in_their_groups_and_among_the_callbacks(
    config: dict[str, Any],
) -> None:
    stages, parts = {"a": {"trains": ["encoder"], "steps": 2}}, {"encoder": {"multiplier": 0.1}}
    listed = copy.deepcopy(config)
    config |= {"staged_freezing": {"stages": stages}, "pretrained_lr": {"parts": parts}}
    listed["trainer"]["callbacks"] = [
        callback("StagedFreezing", stages=stages),
        callback("PretrainedLR", parts=parts),
    ]
    for one in (config, listed):
        source = recipe_source(one)
        assert source.stages == {"a": Stage(trains=["encoder"], steps=2)}
        assert source.rates == {"encoder": PartLR(multiplier=0.1)}


def test_a_fusion_with_weights_and_adapters_are_seen(config: dict[str, Any]) -> None:
    options = config["model"]["init_args"]
    options["fusion"] = {"class_path": "lit_vlm.fusions.COMMFusion"}
    options["language_model"] = {"class_path": "x.Model", "init_args": {"lora": {"r": 2}}}
    source = recipe_source(config)
    assert source.parts == ["encoder", "fusion", "connector", "language_model"]
    assert source.adapted == ["language_model"]


def test_of_a_strangers_model_only_what_is_named_is_known(config: dict[str, Any]) -> None:
    config["model"] = {"class_path": "lightning.pytorch.demos.boring_classes.BoringModel"}
    source = recipe_source(config)
    assert (source.parts, source.learning_rate, source.curve) == ([], None, None)


def test_reads_what_the_letters_of_two_towers_imply(config: dict[str, Any]) -> None:
    config["model"] = {
        "class_path": "lit_vlm.pretraining.ContrastivePretraining",
        "init_args": {
            **config["model"]["init_args"],
            "towers": "Uu",
            "image_multiplier": 0.1,
            "unlock_after": 0.25,
        },
    }
    source = recipe_source(config)
    assert source.parts == ["encoder", "text_encoder", "head"]
    assert source.stages == {
        "locked": Stage(trains=["text_encoder", "head"], share=0.25),
        "unlocked": Stage(trains=["encoder", "text_encoder", "head"]),
    }
    assert source.rates == {"encoder": PartLR(multiplier=0.1)}


def test_names_the_student_of_a_self_distillation(config: dict[str, Any]) -> None:
    config["model"]["class_path"] = "lit_vlm.pretraining.SelfDistillation"
    source = recipe_source(config)
    assert source.parts == ["student", "student_head"]
    assert list(source.stages) == [WHOLE_RUN]


@pytest.mark.parametrize(
    ("stage_data", "weights", "message"),
    [
        (["vq"], None, r"names of the data module's train \(vqa, texts\), got 'vq'\. Did you"),
        ({"vqa": 1, "txts": 2}, None, "got 'txts'. Did you mean: texts"),
        ([], {"vqa": 1}, "Module: weights must name each training source"),
    ],
)
def test_refuses_data_that_there_is_not(
    config: dict[str, Any], stage_data: Any, weights: Any, message: str
) -> None:
    config["staged_freezing"]["stages"]["a"] = {"trains": ["encoder"], "data": stage_data}
    train = {name: {"class_path": "JSONConversations"} for name in ("vqa", "texts")}
    init_args = {"train": train, "weights": weights}
    config["data"] = {"class_path": "lit_vlm.data.Module", "init_args": init_args}
    with pytest.raises(ValueError, match=message):
        recipe_source(config)
    init_args["train"] = {"class_path": "JSONConversations"}  # whose names are not known
    assert list(recipe_source(config).stages) == ["a"]
