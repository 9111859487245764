"""Classification by a linear layer on features that stay as they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from lit_vlm.metrics.finite import check_finite

_MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A linear classifier of features, and how it was chosen.

    Attributes:
        weight: of features that ``mean`` and ``scale`` have standardised.
        bias: of each class.
        mean: of each feature over the training features.
        scale: one over each feature's standard deviation there.
        learning_rate: the chosen one.
        weight_decay: the chosen one.
        held_out_accuracy: share of the held-out training features that the choice classified.
    """

    weight: Float[Tensor, "D K"]
    bias: Float[Tensor, "K"]
    mean: Float[Tensor, "D"]
    scale: Float[Tensor, "D"]
    learning_rate: float
    weight_decay: float
    held_out_accuracy: float

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N K"]:
        """Return the logits of features."""
        return (features.float() - self.mean) * self.scale @ self.weight + self.bias


@torch.no_grad()
def train_linear_probe(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, "N"],
    learning_rates: Sequence[int | float] = (0.001, 0.01, 0.1, 1.0),
    weight_decays: Sequence[int | float] = (0.0, 1e-4, 1e-2),
    steps: int = 1000,
    batch_size: int = 256,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """Train linear classifiers with every learning rate and weight decay; return the best.

    All are trained at once, on the same batches, for little more than the price of one. They are
    compared on a held-out part of the features; the best is then trained again on all of them, so
    nothing of a test set enters its choice. Features are standardised first, so the same learning
    rates suit all encoders.

    Args:
        features: vectors to train on.
        labels: their classes, from 0.
        learning_rates: peaks of a cosine schedule, for SGD with momentum.
        weight_decays: pulls of the weights, not of the biases, to zero.
        steps: batches to train for.
        batch_size: features of a batch; all of them if there are fewer.
        held_out: share of the features that the choice is made on.
        seed: chooses the batches and what is held out.

    Raises:
        ValueError: if there are fewer than two features, no learning rate or no weight decay, the
            share held out is not between 0 and 1, or a feature holds nan or infinity.

    Source:
        DINOv2 (Oquab et al., 2023), https://arxiv.org/abs/2304.07193, ``eval/linear.py``, which
        also trains a grid at once; it does not standardise, nor train on all afterwards.
    """
    _check(len(features), learning_rates, weight_decays, held_out)
    check_finite(features, "train_linear_probe")
    features = features.float()
    mean, deviation = features.mean(0), features.std(0, correction=0)
    # What never varies says nothing: it is left out instead of divided by zero.
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)
    rows, classes = (features - mean) * scale, int(labels.max()) + 1
    pairs = [(float(a), float(b)) for a in learning_rates for b in weight_decays]
    grid = torch.tensor(pairs, dtype=torch.float32, device=rows.device)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    kept = len(rows) - min(len(rows) - 1, max(1, round(held_out * len(rows))))
    train, test = order[:kept], order[kept:]
    how = (classes, steps, batch_size, generator)
    fitted = _train(rows[train], labels[train], grid, *how)
    chosen, accuracy = _best(*fitted, rows[test], labels[test])
    weight, bias = _train(rows, labels, grid[chosen : chosen + 1], *how)
    return LinearProbe(weight[0], bias[0, 0], mean, scale, *pairs[chosen], accuracy)


def _check(
    count: int, rates: Sequence[int | float], decays: Sequence[int | float], held_out: float
) -> None:
    if count < 2:
        raise ValueError(
            f"train_linear_probe: there must be two features to learn from, got {count}."
        )
    if not rates or not decays:
        raise ValueError(
            f"train_linear_probe: there must be a learning rate and a weight decay, got "
            f"{list(rates)} and {list(decays)}."
        )
    if not 0 < held_out < 1:
        raise ValueError(
            f"train_linear_probe: held_out must be a share between 0 and 1, got {held_out}."
        )


def _train(
    rows: Tensor,
    labels: Tensor,
    grid: Tensor,
    classes: int,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return weights (P, D, K) and biases (P, 1, K) of one classifier for each row of the grid."""
    rate, decay = grid[:, 0, None, None], grid[:, 1, None, None]
    weight = rows.new_zeros(len(grid), rows.shape[1], classes)
    bias = rows.new_zeros(len(grid), 1, classes)
    pushes = torch.zeros_like(weight), torch.zeros_like(bias)
    for step in range(steps):
        x, y = rows, labels
        if len(rows) > batch_size:
            picked = torch.randint(len(rows), (batch_size,), generator=generator).to(rows.device)
            x, y = rows[picked], labels[picked]
        # The gradient of the cross-entropy by hand: validation runs where autograd is off.
        error = (x @ weight + bias).softmax(-1)
        error[:, torch.arange(len(x)), y] -= 1
        error /= len(x)
        now = rate * (1 + math.cos(math.pi * step / steps)) / 2
        pushes[0].mul_(_MOMENTUM).add_(x.T @ error + decay * weight)
        pushes[1].mul_(_MOMENTUM).add_(error.sum(1, keepdim=True))
        weight -= now * pushes[0]
        bias -= now * pushes[1]
    return weight, bias


def _best(weight: Tensor, bias: Tensor, rows: Tensor, labels: Tensor) -> tuple[int, float]:
    """Return which classifier is right most often, by the lowest loss of several, and how often."""
    scores = []
    for place in range(len(weight)):
        logits = rows @ weight[place] + bias[place]
        loss = float(cross_entropy(logits, labels))
        right = float((logits.argmax(1) == labels).float().mean())
        scores.append((right, -loss) if math.isfinite(loss) else (-1.0, -math.inf))
    chosen = max(range(len(scores)), key=scores.__getitem__)
    return chosen, scores[chosen][0]
