"""Which training sources are read, and how often each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lit_vlm.data.stage_batches import places_of
from lit_vlm.errors import nearest
from lit_vlm.stages import Stage

Weights = Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Some of the training sources, and what their shares depend on.

    With neither weights nor a temperature, a pass has each sample once.

    Attributes:
        names: of the sources that are read; their numbers, if they have no names.
        places: of these among all training sources.
        weights: how often rows are from each source, relative to the others; or None.
        temperature: a source's weight is its number of rows to the power of 1 over this: 1 shares
            rows out by size, more makes shares more alike; or None.
        named: whether the sources have names.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    weights: tuple[int | float, ...] | None = None
    temperature: int | float | None = None
    named: bool = True

    @property
    def is_weighted(self) -> bool:
        """Whether shares are other than by size alone."""
        return self.weights is not None or self.temperature is not None

    def shares(self, rows: Sequence[int]) -> list[Fraction]:
        """Return the share of each source, for their numbers of rows.

        Raises:
            ValueError: if a source has none, or the temperature leaves it none.
        """
        for name, count in zip(self.names, rows, strict=True):
            if not count:
                raise ValueError(f"Mixture: a source must have samples, got none in {name!r}.")
        found = [_exactly(weight) for weight in self.weights or ()] or self._of_sizes(rows)
        return [weight / sum(found) for weight in found]

    def _of_sizes(self, rows: Sequence[int]) -> list[Fraction]:
        if self.temperature in (None, 1):
            return [Fraction(count) for count in rows]
        assert self.temperature is not None
        # Relative to the largest, since a power of the size itself may be beyond all numbers.
        found = [Fraction((count / max(rows)) ** (1 / self.temperature)) for count in rows]
        if not all(found):
            raise ValueError(
                f"Mixture: temperature must leave each source a share, got {self.temperature}, "
                f"which leaves {self.names[found.index(Fraction(0))]!r} none. Make it larger."
            )
        return found


def mixture_of(
    names: Sequence[str],
    count: int,
    weights: Weights | None = None,
    temperature: int | float | None = None,
    stage: Stage | None = None,
) -> Mixture:
    """Return what a stage reads, or a run without stages.

    Args:
        names: of the training sources; none if they have none.
        count: number of the training sources.
        weights: the run's, by name.
        temperature: the run's.
        stage: what it says of data goes before what the run does.

    Raises:
        ValueError: if a name is unknown, or a number out of range.
    """
    data = stage.data if stage is not None else []
    chosen = list(data) or list(names)
    places = tuple(places_of(chosen, names)) if chosen else tuple(range(count))
    _check_once(chosen)
    labels = tuple(chosen) or tuple(str(number + 1) for number in range(count))
    if isinstance(data, Mapping) and data:
        assert stage is not None
        check_weights("StagedFreezing", "data", data, stage.temperature)
        return Mixture(labels, places, tuple(data.values()))
    if stage is not None and stage.temperature is not None:
        check_weights("StagedFreezing", "data", None, stage.temperature)
        return Mixture(labels, places, None, stage.temperature, named=bool(names))
    own = None if weights is None else tuple(weights[name] for name in labels)
    return Mixture(labels, places, own, temperature, named=bool(names))


def check_names(who: str, names: Sequence[str], weights: Weights | None) -> None:
    """Raise ``ValueError`` if weights are not of the very sources of training, by name.

    Args:
        who: what has the weights, for the message.
        names: of the training sources; none if they have none.
        weights: by name.
    """
    if weights is None:
        return
    if not names:
        raise ValueError(
            f"{who}: weights must be of training sources with names, got {dict(weights)} for "
            f"sources without. Give train: {{NAME: SOURCE}}."
        )
    for name in weights:
        if name not in names:
            raise ValueError(
                f"{who}: weights must be of the training sources ({', '.join(names)}), got "
                f"{name!r}.{nearest(name, names, list_all=False)}"
            )
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(
            f"{who}: weights must name each training source ({', '.join(names)}), got none for "
            f"{missing[0]!r}. Give it a weight, or leave it out of train."
        )


def check_weights(
    who: str, what: str, weights: Weights | None, temperature: int | float | None
) -> None:
    """Raise ``ValueError`` if there are both weights and a temperature, or one is not positive.

    Args:
        who: what has them, for the message.
        what: the name of the weights.
        weights: by name; or None.
        temperature: or None.
    """
    if weights is not None and temperature is not None:
        raise ValueError(
            f"{who}: shares must be given once, got the weights {dict(weights)} ({what}) and the "
            f"temperature {temperature}. Keep one."
        )
    for name, weight in (weights or {}).items():
        if not (weight > 0 and math.isfinite(weight)):
            weights_of = "weights" if what == "weights" else f"weights ({what})"
            raise ValueError(
                f"{who}: {weights_of} must be positive, got {weight} for {name!r}. Leave out "
                f"what is not to be read."
            )
    if temperature is not None and not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"{who}: temperature must be positive, got {temperature}. 1 mixes by size; more makes "
            f"shares more alike."
        )


def _exactly(weight: int | float) -> Fraction:
    # 0.1 is a tenth, not the number nearest to it that a computer has.
    return Fraction(str(float(weight)) if isinstance(weight, float) else weight)


def _check_once(names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"StagedFreezing: the data of a stage must name a source once, got {twice[0]!r} "
            f"{names.count(twice[0])} times. Give weights to read it more often: data: {{NAME: 2}}."
        )
