import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from lit_vlm.config_reader import read_fit_config
from lit_vlm.errors import ConfigError
from lit_vlm.model import VisionLanguageModel
from lit_vlm.plan import Plan, make_plan

MakeModel = Callable[..., VisionLanguageModel]

# The sizes of the connector and of the rest of quickstart, in numbers
QUICKSTART = {"encoder": 104_848, "fusion": 0, "connector": 41_216, "language_model": 918_656}
STAGES = {
    "align": {"trains": ["connector"], "steps": 10},
    "tune": {"trains": ["language_model"], "steps": 10, "image_size": 64, "max_length": 500},
    "all": {"trains": ["*"], "steps": 10, "keep_optimizer": True},
}


def plan(*words: str, ranks: int | None = 2) -> Plan:
    return make_plan(read_fit_config(["--config", "quickstart", *words]), ranks)


@functools.cache
def quickstart() -> dict[str, Any]:
    return read_fit_config(["--config", "quickstart"])


def plan_with(ranks: int | None = None, **trainer: Any) -> Plan:
    """Return the plan of quickstart with another trainer, which is quick."""
    config = quickstart()
    return make_plan({**config, "trainer": config["trainer"] | trainer}, ranks)


def staged(stages: dict[str, Any]) -> list[str]:
    clip = {
        "class_path": "CLIPEncoder",
        "init_args": {
            "config": {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 16},
            "layers": [-1],
            "image_size": 32,
        },
    }
    words = ["--model.encoder", json.dumps(clip)]
    return [*words, "--staged_freezing.stages", json.dumps(stages)]


def test_counts_the_parameters_of_each_part_and_what_trains_of_them() -> None:
    made = plan_with()
    assert {part.name: part.parameters for part in made.parts} == QUICKSTART
    assert made.parameters == sum(QUICKSTART.values())
    assert [stage.name for stage in made.stages] == ["the whole run"]
    assert {p.name: p.trained["the whole run"] for p in made.parts} == QUICKSTART
    assert (made.model, made.parts[0].class_name) == ("VisionLanguageModel", "TimmEncoder")


def test_obeys_a_callback_that_freezes() -> None:
    freeze = {"class_path": "Freeze", "init_args": {"parts": ["encoder", "connector.layers.0"]}}
    made = plan("--trainer.callbacks+", json.dumps(freeze))
    trained = {part.name: part.trained["the whole run"] for part in made.parts}
    assert trained["encoder"] == 0 < trained["connector"] < QUICKSTART["connector"]
    assert made.stages[0].trained == sum(trained.values())


def test_each_stage_has_its_own_sizes() -> None:
    made = plan(*staged(STAGES))
    align, tune, everything = made.stages
    language_model = QUICKSTART["language_model"]
    assert tune.trained == language_model
    assert align.trained + tune.trained < everything.trained == made.parameters
    # The side of a stage is the model's own again where the next one says nothing.
    assert [stage.image_size for stage in made.stages] == [32, 64, 32]
    assert [stage.visual_tokens for stage in made.stages] == [4, 16, 4]
    assert [stage.max_length for stage in made.stages] == [2048, 500, 2048]
    assert [stage.max_images for stage in made.stages] == [512, 31, 512]


def test_the_optimizer_holds_what_it_is_told_to_keep() -> None:
    first, _, together = plan(*staged(STAGES)).stages
    forgetful = {**STAGES, "all": {"trains": ["encoder"], "steps": 10}}
    kept = {**forgetful, "all": {**forgetful["all"], "keep_optimizer": True}}
    *_, tune, alone = plan(*staged(forgetful)).stages
    *_, both = plan(*staged(kept)).stages
    ddp, zero = "ddp", "deepspeed_stage_2"
    assert both.memory[ddp].gradients == alone.memory[ddp].gradients
    # The stage before had begun anew: what the connector had learnt is forgotten.
    averages = alone.memory[ddp].optimizer + tune.memory[ddp].optimizer
    assert both.memory[ddp].optimizer == averages
    assert together.memory[ddp].optimizer == averages + first.memory[ddp].optimizer
    # Each stage has an engine of its own.
    assert both.memory[zero] == alone.memory[zero]


def test_tensors_that_are_shared_count_once(tiny_model: MakeModel) -> None:
    trainer: dict[str, Any] = {"max_steps": 1, "max_epochs": None}
    plans = [
        make_plan({"trainer": trainer, "model": tiny_model(sizes=sizes).init_config}, 1)
        for sizes in ({}, {"tie_word_embeddings": True})
    ]
    apart, tied = (made.parameters for made in plans)
    assert apart - tied == 300 * 16  # the head


def test_fixed_positions_are_no_parameters_that_train() -> None:
    resampler = {"class_path": "CrossAttentionResampler", "init_args": {"num_queries": 16}}
    made = plan(*staged({}), "--model.connector", json.dumps(resampler))
    connector = next(part for part in made.parts if part.name == "connector")
    assert connector.trained["the whole run"] == connector.parameters
    assert connector.buffers == 16 * 128


def test_a_model_without_language_has_patches_for_tokens() -> None:
    made = make_plan(read_fit_config(["--config", "lit_emoji"]))
    assert [part.name for part in made.parts] == ["encoder", "text_encoder", "head"]
    [stage] = made.stages
    assert (stage.name, stage.image_size, stage.visual_tokens) == ("locked", 128, 16)
    assert (stage.max_length, stage.max_images) == (None, None)
    assert [part.trained["locked"] > 0 for part in made.parts] == [False, True, True]


def test_averages_of_others_have_neither_gradients_nor_states() -> None:
    made = make_plan(read_fit_config(["--config", "distill_easy_vqa"]), 1)
    [stage] = made.stages
    teacher = made.parameters - stage.trained
    assert teacher > 0
    memory = stage.memory["ddp"]
    assert memory.weights - memory.gradients == 4 * teacher


@pytest.mark.parametrize(
    ("trainer", "ranks"),
    [
        ({"devices": 3}, 3),
        ({"devices": 3, "num_nodes": 2}, 6),
        ({"devices": [0, 2]}, 2),
        ({"devices": "0,2,5"}, 3),
        ({}, 1),  # auto, of a CPU
        ({"accelerator": "gpu"}, 8),
        ({"accelerator": "gpu", "devices": -1}, 8),
    ],
)
def test_the_processes_are_those_of_the_trainer(trainer: dict[str, Any], ranks: int) -> None:
    assert plan_with(**trainer).ranks == ranks


@pytest.mark.parametrize(
    ("given", "meant"),
    [(32, "32-true"), ("16-mixed", "16-mixed"), ("bf16", "bf16-mixed"), (None, "32-true")],
)
@pytest.mark.filterwarnings("ignore:.precision=:UserWarning")
def test_precisions_have_other_names(given: Any, meant: str) -> None:
    assert plan_with(precision=given).precision == meant


def test_says_which_tokens_may_come_on_top() -> None:
    tongue = ["--model.language_model.tokenizer", "nobody/qwen", "--model.prompt", "QwenVL"]
    notes = plan(*tongue).notes
    assert len(notes) == 2
    assert "<img>" in notes[1]
    assert "add 256 parameters each" in notes[1]
    assert len(plan("--model.prompt", "QwenVL").notes) == 1  # they are counted


@pytest.mark.parametrize(
    ("trainer", "ranks", "message"),
    [
        ({}, 0, "--devices must be at least 1, got 0"),
        ({"devices": "many"}, None, "--devices must be a number, got 'many'"),
        ({"precision": "transformer-engine"}, 1, "precision must be one of torch's own"),
    ],
)
def test_refuses_what_it_cannot_plan(
    trainer: dict[str, Any], ranks: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_with(ranks, **trainer)


def test_refuses_a_stage_that_names_nothing() -> None:
    with pytest.raises(ValueError, match="connectr"):
        plan(*staged({"align": {"trains": ["connectr"], "steps": 1}}))


def test_a_dictionary_of_it_has_all_figures() -> None:
    made = plan(*staged(STAGES))
    plain = json.loads(json.dumps(made.as_dict()))
    assert plain["parameters"] == made.parameters
    assert [stage["visual_tokens"] for stage in plain["stages"]] == [4, 16, 4]
    memory = plain["stages"][1]["memory"]["fsdp2"]
    assert memory["total"] == memory["weights"] + memory["gradients"] + memory["optimizer"]
