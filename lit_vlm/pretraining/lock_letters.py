"""LiT's two letters: which towers are pretrained, and which of these train."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

from lightning import Callback, Trainer

from lit_vlm.callbacks.freeze import Freeze
from lit_vlm.callbacks.pretrained_lr import PretrainedLR
from lit_vlm.callbacks.staged_freezing import StagedFreezing
from lit_vlm.configurable import Configurable
from lit_vlm.part_rates import PartLR
from lit_vlm.stages import Stage

LockLetters = Literal["Lu", "LU", "LL", "Uu", "UU", "UL", "uu", "uU", "uL"]
"""The image tower's letter, then the text tower's: ``L`` is pretrained and locked, ``U`` pretrained
and trained, ``u`` new and trained."""

_WHO = "ContrastivePretraining"
_TOWERS = ("encoder", "text_encoder")


class TowerPlan:
    """How two towers train, by LiT's letters, smaller rates and a later start.

    Locked is frozen by ``StagedFreezing``: no gradient, no optimizer state, evaluation mode.

    Args:
        letters: see ``LockLetters``; None to leave what trains to callbacks.
        image_multiplier: of the image tower's learning rate.
        text_multiplier: of the text tower's learning rate.
        unlock_after: optimizer steps (an integer) or share of the run (a float below 1) in which a
            ``U`` image tower is locked, too; 0 for none.

    Raises:
        ValueError: if an argument is out of range, or is meant for a tower that does not train.

    Source:
        LiT (Zhai et al., 2022), https://arxiv.org/abs/2111.07991; smaller rates and later
        unlocking are its appendix H.
    """

    def __init__(
        self,
        letters: LockLetters | None,
        image_multiplier: int | float = 1.0,
        text_multiplier: int | float = 1.0,
        unlock_after: int | float = 0,
    ) -> None:
        _check_letters(letters)
        self.letters = letters
        self.multipliers = dict(zip(_TOWERS, (image_multiplier, text_multiplier), strict=True))
        for name, (tower, value) in zip(
            ("image_multiplier", "text_multiplier"), self.multipliers.items(), strict=True
        ):
            _check_multiplier(name, value, locked=self.locks(tower))
        if unlock_after < 0 or (isinstance(unlock_after, float) and unlock_after >= 1):
            raise ValueError(
                f"{_WHO}: unlock_after must be a number of steps or a share below 1, got "
                f"{unlock_after}."
            )
        if unlock_after and (letters is None or letters[0] != "U"):
            raise ValueError(
                f"{_WHO}: unlock_after is for an image tower that is pretrained and trains (towers "
                f"U.), got towers={letters}. Leave it out."
            )
        self.unlock_after = unlock_after
        self._made: list[Callback] | None = None

    @property
    def locks_image(self) -> bool:
        """Whether the image tower is locked for the whole run."""
        return self.locks("encoder")

    def locks(self, tower: str) -> bool:
        """Whether a tower, ``encoder`` or ``text_encoder``, is locked for the whole run."""
        return self.letters is not None and self.letters[_TOWERS.index(tower)] == "L"

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages that lock what the letters lock; none if all trains from the start."""
        if self.letters is None:
            return {}
        trained = [*(name for name in _TOWERS if not self.locks(name)), "head"]
        if not self.unlock_after:
            return {} if len(trained) > len(_TOWERS) else {"locked": Stage(trains=trained)}
        length = "share" if isinstance(self.unlock_after, float) else "steps"
        later: Any = {"trains": [n for n in trained if n != "encoder"], length: self.unlock_after}
        return {"locked": Stage(**later), "unlocked": Stage(trains=trained)}

    @property
    def rates(self) -> dict[str, PartLR]:
        """The towers that learn at another rate."""
        return {n: PartLR(multiplier=float(m)) for n, m in self.multipliers.items() if m != 1}

    def callbacks(self, trainer: Trainer) -> list[Callback]:
        """Return the callbacks that make it so, the same at each call; drop idle ones like them.

        Raises:
            ValueError: if others already say what trains, or how fast.
        """
        if self._made is None:
            self._made = []
            if self.stages:
                self._made.append(StagedFreezing(self.stages, save_stages=False))
            if self.rates:
                self._made.append(PretrainedLR(self.rates))
        known: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        others = [callback for callback in known if callback not in self._made]
        self._check_alone(others)
        kinds = {type(callback) for callback in self._made}
        # Lightning would say that it replaces them, though they do nothing.
        trainer.callbacks = [c for c in others if type(c) not in kinds]  # type: ignore[attr-defined]
        return self._made

    def check_weights(self, encoder: Configurable, text_encoder: Configurable) -> None:
        """Raise ``ValueError`` if a tower is pretrained and should be new, or the other way."""
        for letter, name, part in zip(
            self.letters or "", _TOWERS, (encoder, text_encoder), strict=False
        ):
            said = list(_pretrained_of(part.init_config))
            is_pretrained = any(value is not None for value in said)
            if said and is_pretrained == (letter == "u"):
                raise ValueError(
                    f"{_WHO}: towers={self.letters} must go with {name}.pretrained, got "
                    f"{next((v for v in said if v is not None), None)!r} for {letter!r}: "
                    f"{_MEANINGS[letter]}. Change the one or the other."
                )

    def _check_alone(self, others: list[Any]) -> None:
        freezes = [
            type(callback).__name__
            for callback in others
            if (isinstance(callback, StagedFreezing) and callback.stages)
            or (isinstance(callback, Freeze) and callback.parts)
        ]
        if self.letters is not None and freezes:
            raise ValueError(
                f"{_WHO}: towers={self.letters} must say alone what trains, got {freezes[0]} too. "
                f"Leave one of them out."
            )
        if self.rates and any(isinstance(c, PretrainedLR) and c.parts for c in others):
            raise ValueError(
                f"{_WHO}: image_multiplier and text_multiplier must say learning rates alone, got "
                f"PretrainedLR too. Leave them out, and name the towers there: encoder, "
                f"text_encoder."
            )


_MEANINGS = {
    "L": "a locked tower is pretrained",
    "U": "a tower of this letter is pretrained",
    "u": "a tower of this letter is new",
}


def _check_letters(letters: str | None) -> None:
    if letters is not None and letters not in get_args(LockLetters):
        raise ValueError(
            f"{_WHO}: towers must be one of {', '.join(get_args(LockLetters))} (image tower first; "
            f"L pretrained and locked, U pretrained, u new), got {letters!r}."
        )


def _check_multiplier(name: str, value: int | float, locked: bool) -> None:
    if value <= 0:
        raise ValueError(f"{_WHO}: {name} must be positive, got {value}. Lock what must not train.")
    if locked and value != 1:
        raise ValueError(
            f"{_WHO}: {name} must be left out for a tower that is locked, got {value}. Take the "
            f"letter U to train it."
        )


def _pretrained_of(record: Any) -> Iterator[Any]:
    # An ensemble has its encoders' records inside of its own.
    for key, value in record.items() if isinstance(record, dict) else ():
        if key == "pretrained":
            yield value
        else:
            yield from _pretrained_of(value)
    for value in record if isinstance(record, list) else ():
        yield from _pretrained_of(value)
