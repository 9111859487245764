"""Each system at full size, on the meta device: its counts, and who trains when, as published."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lightning import LightningDataModule
from torch import nn

from lit_vlm.config_files import CONFIGS
from lit_vlm.config_reader import read_fit_config
from lit_vlm.data import ConversationDataModule
from lit_vlm.meta_model import meta_model
from lit_vlm.parser import FriendlyParser
from lit_vlm.part_rates import PartLR, parameter_rates
from lit_vlm.recipe import make_recipe
from lit_vlm.recipe_config import recipe_source
from lit_vlm.stage_parts import StageParts

SYSTEMS = ("llava", "qwen_vl", "pali3", "comm", "visual_chat", "lit", "clip", "siglip")
STAGED = SYSTEMS[:5]
FIGURE = re.compile(
    r"^ *(steps|epochs|max_steps|max_epochs|learning_rate|min_learning_rate|warmup|schedule|betas"
    r"|weight_decay|batch_size|devices|num_nodes|precision|gradient_clip_val|seed_everything):"
)
SOURCES = re.compile(
    r"# .*(\b(LL|QN|QV|QW|P3|BV|CM|SH|VC|VCP|LT|SG|OC)\b|\[ours\]|\[from memory\]"
    r"|as in systems|the stages end the run)"
)


@dataclass
class System:
    """A config as ``fit`` reads it, and its model on the meta device."""

    config: dict[str, Any]
    model: Any
    stages: StageParts = field(init=False)

    def __post_init__(self) -> None:
        self.stages = StageParts(recipe_source(self.config).stages)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.config["model"]["init_args"])

    def trains(self, stage: str) -> dict[str, str]:
        """Enter a stage; return of each part with weights whether it trains."""
        self.stages.apply(self.model, stage)
        return {name: state(part) for name, part in self.model.parts.items() if count(part)}

    def tokens(self, side: int) -> int:
        """Return the visual tokens of a picture at a size."""
        self.model.set_image_size(side)
        patches = self.model.fusion.num_tokens(self.model.encoder.num_tokens)
        return int(self.model.connector.num_tokens(patches))


def read(*names: str) -> System:
    words = [word for name in names for word in ("--config", f"systems/{name}")]
    config = read_fit_config(words)
    return System(config, meta_model(config["model"]))


def count(part: nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def state(part: nn.Module) -> str:
    found = {weight.requires_grad for weight in part.parameters()}
    return "in part" if len(found) == 2 else "trains" if found == {True} else "frozen"


def trained(model: nn.Module) -> dict[str, int]:
    return {name: w.numel() for name, w in model.named_parameters() if w.requires_grad}


@pytest.fixture(scope="module")
def systems() -> dict[str, System]:
    return {name: read(f"{name}/full") for name in SYSTEMS}


FROZEN_EYE = {"encoder": "frozen", "connector": "trains", "language_model": "trains"}
ALL = {"encoder": "trains", "connector": "trains", "language_model": "trains"}
COMM = {**FROZEN_EYE, "fusion": "trains"}
WHO_TRAINS = {
    "llava": {
        "align": {"encoder": "frozen", "connector": "trains", "language_model": "frozen"},
        "tune": FROZEN_EYE,
    },
    "qwen_vl": {
        "pretrain": {"encoder": "trains", "connector": "trains", "language_model": "frozen"},
        "multitask": ALL,
        "chat": FROZEN_EYE,
    },
    "pali3": {"multimodal": FROZEN_EYE, "resolution": ALL, "task": FROZEN_EYE},
    "comm": {"reorganised": COMM, "instruct": COMM},
    "visual_chat": {
        "chat": {"encoder": "frozen", "connector": "in part", "language_model": "in part"}
    },
}


@pytest.mark.parametrize("name", STAGED)
def test_what_trains_in_each_stage_is_what_is_published(
    name: str, systems: dict[str, System]
) -> None:
    system = systems[name]
    assert {stage: system.trains(stage) for stage in system.stages.stages} == WHO_TRAINS[name]


@dataclass
class Expected:
    """What is published of a stage: rate, batch in all, sizes, and what is read how."""

    rate: float
    batch: int
    length: str
    side: int
    tokens: int
    prompt: str
    resize: str
    data: list[str] | dict[str, float]
    warmup: int | float
    floor: float = 0.0


WEB = ("laion_en", "laion_coco", "datacomp", "coyo", "cc12m", "cc3m", "sbu", "coco")
WEB_WEIGHTS = (280.0, 300.0, 300.0, 200.0, 8.0, 3.0, 0.8, 0.6)
WEB_MIX = {**dict(zip(WEB, WEB_WEIGHTS, strict=True)), "laion_zh": 105.0, "in_house_zh": 220.0}
TASKS = ("caption", "vqa", "grounding", "referring", "grounded_caption", "ocr", "text")
TASK_MIX = dict(zip(TASKS, (19.7, 3.6, 3.5, 8.7, 8.7, 24.8, 7.8), strict=True))
SHIKRA = ["vqa", "captions", "refcoco", "refcoco_plus", "refcocog", "visual_genome", "visual7w"]
OTTER = [f"otter_{kind}" for kind in ("cgd", "sd", "sn", "tvc", "vst")]
CHATS = ["llava", "llava_dial", *OTTER, "llava_otter_blend", "sparkles"]
STAGES = {
    "llava": {
        "align": Expected(
            1e-3, 256, "1 epoch", 336, 2048, "LLaVAPlain", "crop", ["captions"], 0.03
        ),
        "tune": Expected(2e-5, 128, "1 epoch", 336, 2048, "LLaVAV1", "pad", ["dialogues"], 0.03),
    },
    "qwen_vl": {
        "pretrain": Expected(
            *(2e-4, 30720, "50,000 steps", 224, 512, "QwenVLPretraining", "stretch"),
            *(WEB_MIX, 500, 1e-6 / 2e-4),
        ),
        "multitask": Expected(
            *(5e-5, 4096, "19,000 steps", 448, 2048, "QwenVLPretraining", "stretch"),
            *(TASK_MIX, 400, 1e-5 / 5e-5),
        ),
        "chat": Expected(
            *(1e-5, 128, "8,000 steps", 448, 2048, "QwenVL", "stretch"),
            *(["dialogues"], 3000, 1e-6 / 1e-5),
        ),
    },
    "comm": {
        "reorganised": Expected(
            2e-5, 64, "100,000 steps", 336, 2048, "LLaVAV1", "pad", SHIKRA, 0.03
        ),
        "instruct": Expected(
            *(2e-5, 64, "20,000 steps", 336, 2048, "LLaVAV1", "pad"),
            *({"llava_instruct": 0.5, "shikra_rd": 0.5}, 0.03),
        ),
    },
    "visual_chat": {
        "chat": Expected(
            *(1e-3, 128, "6 epochs", 448, 4096, "VisualChat", "stretch"),
            *(CHATS, 0.1),
        ),
    },
}
ON_PAPER = [(name, stage) for name, stages in STAGES.items() for stage in stages]


@pytest.mark.parametrize(("name", "stage"), ON_PAPER)
def test_each_stage_has_the_published_figures(
    name: str, stage: str, systems: dict[str, System]
) -> None:
    system = systems[name]
    system.stages.apply(system.model, stage)
    assert found(system, stage) == STAGES[name][stage]


def found(system: System, stage: str) -> Expected:
    said, recipe = system.stages.stages[stage], make_recipe(recipe_source(system.config))
    column = next(column for column in recipe.columns if column.name == stage)
    [rate] = {cell.rate for cell in column.cells if cell.rate is not None}
    assert column.curve is not None
    assert column.curve.schedule == "cosine"
    trainer, data = system.config["trainer"], system.config["data"]["init_args"]
    ranks = trainer["devices"] * trainer["num_nodes"]
    gathered = said.accumulate_grad_batches or trainer["accumulate_grad_batches"]
    return Expected(
        rate=rate,
        batch=ranks * (said.batch_size or data["batch_size"]) * gathered,
        length=column.length.text,
        side=system.model.encoder.image_size[0],
        tokens=said.max_length or system.options["max_length"],
        prompt=_class_name(said.prompt or system.options["prompt"]),
        resize=said.resize or system.options["resize"],
        data=said.data,
        warmup=column.curve.warmup,
        floor=pytest.approx(column.curve.floor),  # type: ignore[arg-type]
    )


def _class_name(prompt: Any) -> str:
    path = prompt["class_path"] if isinstance(prompt, dict) else type(prompt).__name__
    return str(path).rpartition(".")[2]


@pytest.mark.parametrize(
    ("name", "decay", "betas"),
    [
        ("llava", 0.0, [0.9, 0.999]),
        ("qwen_vl", 0.05, [0.9, 0.98]),
        ("comm", 0.0, [0.9, 0.999]),
        ("visual_chat", 0.0, [0.9, 0.95]),
        ("lit", 1e-4, [0.9, 0.999]),
        ("clip", 0.2, [0.9, 0.98]),
        ("siglip", 1e-4, [0.9, 0.95]),
    ],
)
def test_the_optimizer_is_the_published_one(
    name: str, decay: float, betas: list[float], systems: dict[str, System]
) -> None:
    options = systems[name].options
    assert options["weight_decay"] == decay
    assert list(options["betas"]) == betas


def test_pali3_sees_its_three_stages_at_the_published_sizes(systems: dict[str, System]) -> None:
    system = systems["pali3"]
    sides = {}
    for stage in system.stages.stages:
        system.stages.apply(system.model, stage)
        sides[stage] = system.model.image_size
    assert sides == {"multimodal": 224, "resolution": 812, "task": 812}
    assert [system.tokens(side) for side in (224, 448, 812, 1064)] == [256, 1024, 3364, 5776]
    assert system.model.prompt.init_config["class_path"] == "lit_vlm.prompts.plain.Plain"
    longest = system.options["max_length"]
    assert system.tokens(812) < longest < system.tokens(1064)


def test_pali3_learns_documents_at_1064_pixels() -> None:
    system = read("pali3/full", "pali3/documents")
    stages = system.stages.stages
    assert [stages[name].image_size for name in stages] == [224, 1064, 1064]
    assert system.tokens(1064) == 5776 < system.options["max_length"]
    before = read_fit_config(["--config", "systems/pali3/full"])["staged_freezing"]["stages"]
    assert (stages["resolution"].steps or 0) > before["resolution"]["steps"]


@pytest.mark.parametrize(
    ("name", "side", "tokens"),
    [
        ("llava", 336, 576),
        ("qwen_vl", 224, 256),
        ("qwen_vl", 448, 256),
        ("visual_chat", 448, 256),
    ],
)
def test_a_picture_has_the_published_number_of_tokens(
    name: str, side: int, tokens: int, systems: dict[str, System]
) -> None:
    assert systems[name].tokens(side) == tokens


def test_llava_has_the_published_sizes(systems: dict[str, System]) -> None:
    model = systems["llava"].model
    assert count(model.connector) == (1024 * 4096 + 4096) + (4096 * 4096 + 4096) == 20_979_712
    assert count(model.language_model) == 6_738_415_616
    assert len(model.encoder.blocks) == 23  # what layer -2 of 24 blocks needs
    assert model.encoder.dims == (1024,)


def test_llava_trains_adapters_in_the_place_of_the_language_model() -> None:
    system = read("llava/full", "llava/lora")
    # Two matrices of rank 128 beside each of q, k, v, o, gate, up and down of 32 layers.
    adapters = 32 * 128 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    assert system.trains("align")["language_model"] == "frozen"
    assert system.trains("tune") == {**FROZEN_EYE, "language_model": "in part"}
    assert sum(trained(system.model.language_model).values()) == adapters == 319_815_680
    recipe = make_recipe(recipe_source(system.config))
    rates = {row: cell.rate for row, cell in zip(recipe.rows, recipe.columns[1].cells, strict=True)}
    assert rates == {"encoder": None, "connector": 2e-5, "language_model": 2e-4}


def test_qwen_vl_has_the_published_sizes(systems: dict[str, System]) -> None:
    model = systems["qwen_vl"].model
    eye, resampler, words = (count(part) for name, part in model.parts.items() if count(part))
    assert 1.8e9 < eye < 1.9e9
    assert (len(model.encoder.blocks), model.encoder.dims) == (48, (1664,))
    # The published count is of the attention pooling, without the norm and the matrix behind it.
    behind = count(model.connector.norm_out) + count(model.connector.project_out)
    assert resampler - behind == 75_005_952
    assert behind == 2 * 4096 + 4096 * 4096
    assert model.connector.positions.numel() == 1_048_576  # the fixed table
    assert (words, round(words / 1e9, 1)) == (7_721_324_544, 7.7)
    assert 9.6e9 < eye + resampler + words < 9.7e9


def test_qwen_vl_teaches_the_first_blocks_of_its_eye_slowest(systems: dict[str, System]) -> None:
    system = systems["qwen_vl"]
    parts = {
        name: PartLR(**part) if isinstance(part, dict) else part
        for name, part in system.config["pretrained_lr"]["parts"].items()
    }
    rates = parameter_rates(system.model, parts)
    block = "encoder.network.encoder.layers.{}.mlp.fc1.weight"
    patches = "encoder.network.embeddings.patch_embedding.weight"
    assert rates[patches].multiplier == pytest.approx(0.95**49)
    assert rates[block.format(0)].multiplier == pytest.approx(0.95**48)
    assert rates[block.format(47)].multiplier == pytest.approx(0.95)
    assert rates["connector.queries"].multiplier == 1


def test_pali3_has_about_the_published_sizes(systems: dict[str, System]) -> None:
    model = systems["pali3"].model
    assert count(model.connector) == 1664 * 2048 + 2048
    eye, words = count(model.encoder), count(model.language_model)
    assert (round(eye / 1e9), round(words / 1e9), round((eye + words) / 1e9)) == (2, 3, 5)


def test_pali3_makes_the_eye_that_it_reads(systems: dict[str, System]) -> None:
    alone, within = read("pali3/contrast"), systems["pali3"]
    sizes = [system.options["encoder"]["init_args"]["config"] for system in (alone, within)]
    assert sizes[0] == sizes[1]
    source = within.options["encoder"]["init_args"]["pretrained"]
    assert source == f"{alone.config['trainer']['default_root_dir']}/checkpoints/last.ckpt"
    shapes = [dict(s.model.encoder.named_parameters()) for s in (alone, within)]
    assert all(weight.shape == shapes[0][name].shape for name, weight in shapes[1].items())


def test_comm_fuses_by_as_many_weights_as_the_formula_says(systems: dict[str, System]) -> None:
    model = systems["comm"].model
    width, hidden = 1024, 4 * 1024
    lln = 2 * width + width * width + width  # a norm, then a linear layer
    mlp = (width * hidden + hidden) + (hidden * width + width)
    levels = {"clip": 24, "dino": 6}
    merging = sum(levels.values()) * (lln + 1)  # and a scale
    assert count(model.fusion) == merging + 2 * mlp == 48_336_926
    assert count(model.connector) == 2 * width * 4096 + 4096
    read_levels = [encoder.level_names for encoder in model.encoder.encoders.values()]
    assert read_levels[0] == tuple(f"layer_{i}" for i in range(1, 25))
    assert read_levels[1] == tuple(f"layer_{i}" for i in range(19, 25))
    grid = model.encoder.num_tokens
    assert model.connector.num_tokens(model.fusion.num_tokens(grid)) == 576


def test_visual_chat_trains_exactly_a_layer_a_norm_and_the_embeddings(
    systems: dict[str, System],
) -> None:
    system = systems["visual_chat"]
    model = system.model
    system.stages.apply(model, "chat")
    assert sorted(trained(model).values()) == [5120, 5120, 5120, 4096 * 5120, 32000 * 5120]
    table, head = (
        getattr(model.language_model.model, f"get_{side}_embeddings")()
        for side in ("input", "output")
    )
    assert table.weight.requires_grad
    assert not head.weight.requires_grad
    assert count(model.language_model) == 13_015_864_320
    first = model.connector.first
    assert count(first) - count(first.norm_out) == 75_005_952  # Qwen-VL's, without its last matrix
    assert model.language_model.model.config._attn_implementation == "multimodal_causal"


@pytest.mark.parametrize(
    ("name", "towers"),
    [
        # Of CLIP ViT-L/14's 427,616,513 all but two projections and the temperature.
        ("clip", (303_179_776, 427_616_513 - 303_179_776 - 1024 * 768 - 768 * 768 - 1)),
        # Of SigLIP B/16's 203,155,970 all but the temperature and the bias.
        ("siglip", (92_884_224, 203_155_970 - 92_884_224 - 2)),
        # ViT-L/16 without a head, and BERT large without a pooler.
        ("lit", (303_301_632, 335_141_888 - 1024 * 1024 - 1024)),
    ],
)
def test_towers_have_the_published_sizes(
    name: str, towers: tuple[int, int], systems: dict[str, System]
) -> None:
    model = systems[name].model
    assert (count(model.encoder), count(model.text_encoder)) == towers


def test_lit_locks_its_image_tower_and_the_others_train_both(systems: dict[str, System]) -> None:
    lit = systems["lit"]
    [only] = lit.stages.stages
    assert lit.trains(only) == {"encoder": "frozen", "text_encoder": "trains", "head": "trains"}
    assert lit.model.head.embed_dim == 1024
    assert not count(lit.model.head.image)  # no projection behind a locked tower
    for name in ("clip", "siglip"):
        system = systems[name]
        assert {state(part) for part in system.model.parts.values()} == {"trains"}


@pytest.mark.parametrize(
    ("name", "batch", "rate", "loss"),
    [
        ("lit", 16384, 1e-3, "softmax"),
        ("clip", 32768, 4e-4, "softmax"),
        ("siglip", 32768, 1e-3, "sigmoid"),
    ],
)
def test_contrast_is_at_the_published_batch(
    name: str, batch: int, rate: float, loss: str, systems: dict[str, System]
) -> None:
    config, options = systems[name].config, systems[name].options
    ranks = config["trainer"]["devices"] * config["trainer"]["num_nodes"]
    assert ranks * config["data"]["init_args"]["batch_size"] == batch
    assert (options["learning_rate"], options["loss"]) == (rate, loss)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_data_module_has_every_source_that_a_stage_names(
    name: str, systems: dict[str, System]
) -> None:
    parser = FriendlyParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    data = parser.instantiate(parser.parse_object({"data": systems[name].config["data"]})).data
    if name not in STAGED:
        return
    assert isinstance(data, ConversationDataModule)
    named = [name for stage in systems[name].stages.stages.values() for name in stage.data]
    assert set(named) == set(data.names["train"])
    metrics = systems[name].config["data"]["init_args"].get("metrics") or {}
    assert set(metrics) <= set(data.names["test"])


FILES = sorted(p for p in CONFIGS.glob("systems/*/*.yaml") if p.stem != "toy")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_full_recipe_says_what_it_is_and_where_its_figures_are_from(path: Any) -> None:
    text = path.read_text()
    name = path.relative_to(CONFIGS).with_suffix("").as_posix()
    header = text.split("\nseed_everything:")[0].split("\ntrainer:")[0]
    for said in ("lit-vlm plan ", "lit-vlm fit ", f"--config {name}", "Cost:", "xpected"):
        assert said in header
    figures = [line for line in text.splitlines() if FIGURE.match(line)]
    bare = [line for line in figures if not SOURCES.search(line)]
    assert not bare, f"no source for {bare}"


PAGES = sorted((Path(__file__).parents[2] / "docs/systems").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_name_configs_that_are_there(page: Path) -> None:
    named = re.findall(r"--config (systems/\S+)", page.read_text())
    assert named
    assert all((CONFIGS / f"{name}.yaml").is_file() for name in named)
    if page.stem != "README":
        folder = CONFIGS / "systems" / page.stem
        assert {Path(name).stem for name in named} == {path.stem for path in folder.iterdir()}


def test_the_table_of_systems_says_what_the_models_hold(systems: dict[str, System]) -> None:
    [table] = [page.read_text() for page in PAGES if page.stem == "README"]
    for name, system in systems.items():
        billions = sum(count(part) for part in system.model.parts.values()) / 1e9
        [row] = [line for line in table.splitlines() if f"({name}.md)" in line]
        assert row.endswith(f"| {billions:.2f} billion |")
