"""The tensors of a model, part by part."""

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from lit_vlm.part_names import is_within


def modules_by_part(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that are a model's parts: those it names (``parts``), else its children.

    Args:
        model: any model, of this library or another project.
    """
    parts = getattr(model, "parts", None)
    if isinstance(parts, Mapping) and all(isinstance(part, nn.Module) for part in parts.values()):
        return dict(parts)
    return dict(model.named_children())


def parameters_by_part(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Return the parameters of each part by their names in the model.

    What is in none of the parts, such as a ``logit_scale`` of the model itself, is a part of its
    own. A parameter that several parts share stands with the first.

    Args:
        model: any model, of this library or another project.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
        >>> model["head"].weight = model["encoder"].weight
        >>> {part: list(own) for part, own in parameters_by_part(model).items()}
        {'encoder': ['encoder.weight', 'encoder.bias'], 'head': ['head.bias']}
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, dict[str, nn.Parameter]] = {}
    for part, module in modules_by_part(model).items():
        own = {names.pop(id(p)): p for p in module.parameters() if id(p) in names}
        found[part] = own
    for name, parameter in model.named_parameters():
        if id(parameter) in names:
            found.setdefault(name.partition(".")[0], {})[name] = parameter
    return found


def moved_by_itself(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return which tensors are in modules that move without a gradient, and say so.

    A module says so by an attribute ``moves_without_gradient``, as a running average of another.

    Args:
        model: any model, of this library or another project.
        names: names of parameters and buffers in it.
    """
    moving = {
        name for name, m in model.named_modules() if getattr(m, "moves_without_gradient", False)
    }
    return [name for name in names if any(is_within(name, [module]) for module in moving)]


def frozen_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Find the buffers that checkpoints hold and that frozen modules own, such as statistics.

    A buffer is frozen if nothing trains in the module that owns it or, where that one has no
    parameters, in the closest module around it that has.

    Args:
        model: any model, of this library or another project.
    """
    modules = dict(model.named_modules())
    for name, buffer in model.named_buffers():
        owner, _, leaf = name.rpartition(".")
        if leaf in modules[owner]._non_persistent_buffers_set:
            continue
        while owner and not any(True for _ in modules[owner].parameters()):
            owner = owner.rpartition(".")[0]
        parameters = list(modules[owner].parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            yield name, buffer
