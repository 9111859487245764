"""What a config asks of a cluster: parts, tokens and memory, before anything is downloaded."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lightning import LightningModule
from torch import nn

from lit_vlm.freezing import freeze
from lit_vlm.meta_model import meta_model
from lit_vlm.part_names import find_parts
from lit_vlm.part_tensors import modules_by_part, parameters_by_part
from lit_vlm.plan_memory import PlannedTensor, RankMemory, rank_memory
from lit_vlm.plan_trainer import planned_precision, planned_ranks
from lit_vlm.recipe_config import WHOLE_RUN, recipe_source
from lit_vlm.stage_parts import StageParts
from lit_vlm.stages import Stage


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A part of the model.

    Attributes:
        name: its name in the model.
        class_name: its class.
        parameters: numbers in its parameters; what it shares with an earlier part is not counted.
        buffers: numbers in its buffers, which no optimizer knows.
        trained: how many of the parameters train in each stage.
    """

    name: str
    class_name: str
    parameters: int
    buffers: int
    trained: dict[str, int]


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of the training.

    Attributes:
        name: its name.
        trained: numbers in the parameters that train.
        image_size: side of the pictures in pixels; None if the model does not say.
        visual_tokens: tokens that stand for a picture.
        max_length: most tokens of a training sequence; None if the model does not say.
        max_images: most pictures of a training sequence, without any word.
        memory: what each process holds, by strategy.
    """

    name: str
    trained: int
    image_size: int | None
    visual_tokens: int | None
    max_length: int | None
    max_images: int | None
    memory: dict[str, RankMemory]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a config asks of a cluster.

    Attributes:
        model: the model's class.
        precision: the trainer's.
        ranks: number of processes.
        parts: the model's parts.
        stages: the stages, or the whole run as one.
        notes: what is left out of the figures.
    """

    model: str
    precision: str
    ranks: int
    parts: list[PlannedPart]
    stages: list[PlannedStage]
    notes: list[str]

    @property
    def parameters(self) -> int:
        """Numbers in the model's parameters."""
        return sum(part.parameters for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, sums included."""
        plain = asdict(self) | {"parameters": self.parameters}
        for stage, record in zip(self.stages, plain["stages"], strict=True):
            for strategy, memory in stage.memory.items():
                record["memory"][strategy]["total"] = memory.total
        return plain


def make_plan(config: dict[str, Any], ranks: int | None = None) -> Plan:
    """Return the plan of a config; the model is built without memory, and nothing is read.

    Args:
        config: of ``lit-vlm fit``, as ``read_fit_config`` gives it.
        ranks: number of processes; None for the trainer's devices on all its nodes, and for 8 if
            it leaves the devices to the machine.

    Raises:
        ConfigError: if the sizes of a part are nowhere to be read.
        ValueError: if parts do not fit, or a stage trains nothing.
    """
    precision = planned_precision(config["trainer"])
    processes = planned_ranks(config["trainer"] if ranks is None else {"devices": ranks})
    stages = recipe_source(config).stages
    model = meta_model(config["model"])
    by_part = parameters_by_part(model)
    trained: dict[str, dict[str, int]] = {part: {} for part in by_part}
    planned = []
    with_state: set[str] = set()
    for name, stage in _prepared(model, stages):
        now = {n for n, p in model.named_parameters() if p.requires_grad}
        with_state = now | (with_state if stage.keep_optimizer else set())
        for part, own in by_part.items():
            trained[part][name] = sum(own[n].numel() for n in now & own.keys())
        tensors = _tensors(model, with_state)
        memory = rank_memory(tensors, precision, processes)
        planned.append(_stage(model, name, stage, tensors, memory))
    return Plan(
        model=type(model).__name__,
        precision=precision,
        ranks=processes,
        parts=[_part(model, part, own, trained[part]) for part, own in by_part.items()],
        stages=planned,
        notes=_notes(model, config),
    )


def _prepared(model: LightningModule, stages: Any) -> Iterator[tuple[str, Stage]]:
    """Yield the stages, the model being each time as it is in that one."""
    if list(stages) == [WHOLE_RUN]:
        modules = dict(model.named_modules())
        for name in find_parts(model, stages[WHOLE_RUN].keeps_frozen, "Freeze: parts"):
            if name in modules:
                freeze(modules[name])
            else:
                model.get_parameter(name).requires_grad_(False)
        yield WHOLE_RUN, stages[WHOLE_RUN]
        return
    prepared = StageParts(stages)
    prepared.begin(model)
    for name, stage in stages.items():
        prepared.apply(model, name)
        yield name, stage


def _tensors(model: nn.Module, with_state: set[str]) -> list[PlannedTensor]:
    return [
        PlannedTensor(
            shape=tuple(parameter.shape),
            itemsize=parameter.element_size(),
            is_floating=parameter.is_floating_point(),
            trains=parameter.requires_grad,
            has_state=name in with_state,
        )
        for name, parameter in model.named_parameters()
    ]


def _stage(
    model: Any,
    name: str,
    stage: Stage,
    tensors: list[PlannedTensor],
    memory: dict[str, RankMemory],
) -> PlannedStage:
    visual_tokens = _visual_tokens(model)
    max_length = stage.max_length or getattr(model, "max_length", None)
    fitting = max_length // visual_tokens if max_length and visual_tokens else None
    encoder = getattr(model, "encoder", None)
    sides = getattr(encoder, "image_size", None)
    return PlannedStage(
        name=name,
        trained=sum(tensor.numel for tensor in tensors if tensor.trains),
        image_size=sides[0] if sides else None,
        visual_tokens=visual_tokens,
        max_length=max_length,
        max_images=fitting,
        memory=memory,
    )


def _visual_tokens(model: Any) -> int | None:
    encoder = getattr(model, "encoder", None)
    patches: int | None = getattr(encoder, "num_tokens", None)
    if patches is None or not hasattr(model, "connector"):
        return patches
    tokens: int = model.connector.num_tokens(model.fusion.num_tokens(patches))
    return tokens


def _part(
    model: nn.Module, name: str, own: dict[str, nn.Parameter], trained: dict[str, int]
) -> PlannedPart:
    module = modules_by_part(model).get(name, getattr(model, name, None))
    buffers = module.buffers() if isinstance(module, nn.Module) else ()
    return PlannedPart(
        name=name,
        class_name=type(module).__name__,
        parameters=sum(parameter.numel() for parameter in own.values()),
        buffers=sum(buffer.numel() for buffer in buffers),
        trained=trained,
    )


def _notes(model: LightningModule, config: dict[str, Any]) -> list[str]:
    notes = [
        "Not included: activations, buffers, and what is gathered, sent or cast for a moment "
        "(DDP's buckets are as large as the gradients, unless gradient_as_bucket_view is on).",
    ]
    names = [
        name
        for name, part in model.named_modules()
        if getattr(part, "tokenizer", ...) is None and _names_tokenizer(config["model"], name)
    ]
    words = getattr(getattr(model, "prompt", None), "new_tokens", ())
    if names and words:
        width = getattr(getattr(model, "language_model", None), "dim", 0)
        notes.append(
            f"The tokenizer was not read: of {', '.join(words)}, those that it lacks add "
            f"{2 * width:,} parameters each, which train."
        )
    return notes


def _names_tokenizer(config: dict[str, Any], name: str) -> bool:
    record: Any = config
    for word in name.split(".") if name else ():
        record = (record.get("init_args") or {}).get(word) if isinstance(record, dict) else None
    arguments = record.get("init_args") or {} if isinstance(record, dict) else {}
    return any(arguments.get(key) is not None for key in ("tokenizer", "pretrained"))
