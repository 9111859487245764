import copy
from types import MethodType
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_vlm.module_hooks import unwrap_hook, wrap_hook


class Module(LightningModule):
    def configure_optimizers(self) -> str:  # type: ignore[override]
        return "own"


class Around:
    def __init__(self, word: str) -> None:
        self.word = word

    def run(self, original: Any) -> str:
        return f"{self.word}({original()})"


def test_runs_around_a_hook_of_one_object() -> None:
    module, around = Module(), Around("a")
    wrap_hook(module, "configure_optimizers", around.run)
    assert module.configure_optimizers() == "a(own)"
    assert is_overridden("configure_optimizers", module)
    assert Module().configure_optimizers() == "own"
    unwrap_hook(module, "configure_optimizers", around.run)
    assert "configure_optimizers" not in module.__dict__


def test_several_come_off_in_any_order() -> None:
    for first in (0, 1, 2):
        module, arounds = Module(), [Around(word) for word in "abc"]
        for around in arounds:
            wrap_hook(module, "configure_optimizers", around.run)
        assert module.configure_optimizers() == "c(b(a(own)))"
        gone = arounds.pop(first)
        unwrap_hook(module, "configure_optimizers", gone.run)
        inner, outer = (around.word for around in arounds)
        assert module.configure_optimizers() == f"{outer}({inner}(own))"
        for around in arounds:
            unwrap_hook(module, "configure_optimizers", around.run)
        assert "configure_optimizers" not in module.__dict__


def test_what_was_set_on_the_object_before_comes_back() -> None:
    module, around = Module(), Around("a")
    module.configure_optimizers = lambda: "set"  # type: ignore[method-assign]
    wrap_hook(module, "configure_optimizers", around.run)
    assert module.configure_optimizers() == "a(set)"
    unwrap_hook(module, "configure_optimizers", around.run)
    assert module.configure_optimizers() == "set"


def test_a_method_that_was_set_on_the_object_comes_back() -> None:
    """LightningCLI gives a module its optimizer so."""
    module, around = Module(), Around("a")
    given = MethodType(lambda self: "given", module)
    module.configure_optimizers = given  # type: ignore[method-assign]
    wrap_hook(module, "configure_optimizers", around.run)
    assert module.configure_optimizers() == "a(given)"
    unwrap_hook(module, "configure_optimizers", around.run)
    assert module.configure_optimizers() == "given"


def test_unwrapping_what_was_not_wrapped_does_nothing() -> None:
    module = Module()
    unwrap_hook(module, "configure_optimizers", Around("a").run)
    assert module.configure_optimizers() == "own"
    assert copy.deepcopy(module).configure_optimizers() == "own"
