"""Classification by texts alone: each class is what a text encoder makes of its name."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

_TEXTS = 256  # encoded at once


def class_embeddings(
    classes: Sequence[str],
    templates: Sequence[str],
    embed: Callable[[list[str]], Float[Tensor, "C D"]],
) -> Float[Tensor, "K D"]:
    """Return a vector of length one for each class, from several texts about it.

    Each text's vector is brought to length one, then their mean is. An image belongs to the class
    with the largest product. Without the second step, classes whose texts agree would be preferred.

    Args:
        classes: the classes' names, as they are to be put into texts.
        templates: texts with ``{}`` in place of a name.
        embed: returns a vector for each of some texts.

    Raises:
        ValueError: if there is no class or no template, or a template has no ``{}``.

    Source:
        CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020, section 3.1.4.

    Example:
        >>> vectors = {"red": [0.0, 2.0], "no red": [3.0, 0.0]}
        >>> embed = lambda texts: torch.tensor([vectors[text] for text in texts])
        >>> class_embeddings(["red"], ["{}", "no {}"], embed)
        tensor([[0.7071, 0.7071]])
    """
    check_templates(templates, "class_embeddings")
    if not classes:
        raise ValueError("class_embeddings: there must be a class, got none.")
    per_pass = max(1, _TEXTS // len(templates))
    found = []
    for start in range(0, len(classes), per_pass):
        names = classes[start : start + per_pass]
        texts = [template.replace("{}", name) for name in names for template in templates]
        vectors = normalize(embed(texts).float(), dim=-1)
        found.append(vectors.reshape(len(names), len(templates), -1).mean(dim=1))
    return normalize(torch.cat(found), dim=-1)


def check_templates(templates: Sequence[str], name: str) -> None:
    """Refuse templates that do not name a class.

    Args:
        templates: what to look at.
        name: what a message calls their owner.
    """
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        raise ValueError(
            f"{name}: templates must be texts with {{}} in place of a class's name, got "
            f"{wrong[0] if wrong else 'none'!r}. Write 'a photo of a {{}}.', for example."
        )
