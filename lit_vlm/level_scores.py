"""How well the vectors of one level of an encoder tell classes apart."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from lit_vlm.encoder_report import PROBE, Score
from lit_vlm.metrics.finite import finite_rows
from lit_vlm.metrics.linear_probe import train_linear_probe
from lit_vlm.metrics.nearest_neighbours import nearest_neighbours
from lit_vlm.metrics.retrieval import places_of_counterparts


def neighbour_scores(
    level: str,
    train: tuple[Float[Tensor, "N D"], Int[Tensor, "N"]],
    test: tuple[Float[Tensor, "M D"], Int[Tensor, "M"]],
    ks: Sequence[int],
    temperature: int | float | None,
) -> list[Score]:
    """Score k-NN; see ``nearest_neighbours``. Vectors that are not finite count as wrong.

    Args:
        level: the level's name.
        train: vectors and labels that are known.
        test: those to find.
        ks: how many neighbours vote.
        temperature: how much more the nearest ones' votes count.
    """
    if not ks:
        return []
    found = nearest_neighbours(*train, test[0], ks, temperature)
    return [
        Score(f"knn_{k}", level, test[0].shape[1], int((row == test[1]).sum()), len(row))
        for k, row in zip(ks, found, strict=True)
    ]


def probe_scores(
    level: str,
    train: tuple[Float[Tensor, "N D"], Int[Tensor, "N"]],
    test: tuple[Float[Tensor, "M D"], Int[Tensor, "M"]],
    learning_rates: Sequence[int | float],
    weight_decays: Sequence[int | float],
    steps: int,
) -> list[Score]:
    """Score a linear probe; see ``train_linear_probe``. Likewise.

    Args:
        level: the level's name.
        train: vectors and labels to train and to choose on.
        test: those to find.
        learning_rates: to choose from; none for no probe.
        weight_decays: to choose from.
        steps: batches to train for.
    """
    if not learning_rates:
        return []
    probe = train_linear_probe(*train, learning_rates, weight_decays, steps)
    logits = probe(test[0])
    # The largest of nan is the first, which would be the right class at times.
    right = (logits.argmax(1) == test[1]) & finite_rows(logits)
    how = probe.learning_rate, probe.weight_decay
    return [Score(PROBE, level, test[0].shape[1], int(right.sum()), len(test[1]), *how)]


def zero_shot_scores(
    images: Float[Tensor, "M D"], labels: Int[Tensor, "M"], classes: Float[Tensor, "K D"]
) -> list[Score]:
    """Score zero-shot classification; of equally similar classes the right one stands last.

    Args:
        images: their vectors, of length one.
        labels: their classes.
        classes: the classes' vectors, of length one, in the order of their numbers.
    """
    numbers = labels.new_tensor(range(len(classes)))
    places = places_of_counterparts(images, labels, classes, numbers)
    return [
        Score(f"zero_shot_top{k}", "", images.shape[1], int((places < k).sum()), len(places))
        for k in (1, 5)
        if k < len(classes)
    ]
