import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI

from lit_vlm import VisionLanguageModel
from lit_vlm.configurable import Configurable
from lit_vlm.connectors import Connector, LinearConnector, MLPConnector
from lit_vlm.encoders import TimmEncoder
from lit_vlm.fusions import PickLevel
from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.prompts import Plain

HERE = __name__


class Wheel(Configurable):
    def __init__(self, size: int = 16) -> None:
        self.size = size


class Cart(Configurable):
    def __init__(
        self,
        name: str,
        wheel: Wheel | None = None,
        spares: Sequence[Wheel] = (),
        load: dict[str, Any] | None = None,
        path: str | Path = "road",
        speeds: Sequence[float] = (1.0, 2.0),
    ) -> None:
        self.name = name
        self.load = load if load is not None else {}
        self.load["seats"] = 2  # what a careless constructor does


class Painted(Cart):
    def __init__(self, colour: str, **others: Any) -> None:
        super().__init__("painted", **others)
        self.colour = colour


class Plainest(Painted):
    pass


class Loose(Cart):
    def __init__(self, *everything: Any) -> None:
        super().__init__(*everything)


class Factory(Configurable):
    def __init__(
        self,
        connector: Callable[[int, int], Connector] = MLPConnector,
        second: Callable[[int, int], Connector] | None = None,
    ) -> None:
        self.connector = connector(4, 6)
        self.second = second(6, 8) if second else None


class DerivedFactory(Factory):
    def __init__(self, extra: int = 0, **others: Any) -> None:
        super().__init__(**others)


def record(made: Configurable) -> dict[str, Any]:
    arguments = made.init_config["init_args"]
    assert isinstance(arguments, dict)
    return arguments


def test_records_arguments_and_defaults_in_plain_types() -> None:
    cart = Cart("a", path=Path("some") / "where", speeds=range(2))
    assert cart.init_config == {
        "class_path": f"{HERE}.Cart",
        "init_args": {
            "name": "a",
            "wheel": None,
            "spares": [],
            "load": None,
            "path": str(Path("some") / "where"),
            "speeds": [0, 1],
        },
    }


def test_records_nested_objects_by_their_own_records() -> None:
    wheel = {"class_path": f"{HERE}.Wheel", "init_args": {"size": 3}}
    cart = Cart("a", Wheel(3), spares=[Wheel(3), Wheel(3)], load={"in": {"deep": [Wheel(3)]}})
    assert record(cart)["wheel"] == wheel
    assert record(cart)["spares"] == [wheel, wheel]
    assert record(cart)["load"] == {"in": {"deep": [wheel]}}


def test_a_record_is_safe_from_later_changes() -> None:
    load: dict[str, Any] = {"boxes": [1]}
    cart = Cart("a", load=load)
    load["boxes"].append(2)
    record(cart)["load"]["boxes"].append(3)
    assert record(cart)["load"] == {"boxes": [1]}, "and the constructor's seats are no argument"


def test_records_the_outermost_class_of_a_hierarchy() -> None:
    cart = Painted("red", load={"boxes": 1})
    assert cart.init_config == {
        "class_path": f"{HERE}.Painted",
        "init_args": {"colour": "red", "load": {"boxes": 1}},
    }
    assert Plainest("red").init_config["class_path"] == f"{HERE}.Plainest"
    assert record(Plainest(colour="blue", path="lane")) == {"colour": "blue", "path": "lane"}


def test_a_users_subclass_of_a_part_is_rebuilt_from_its_record() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Cart, "cart")
    made = Painted("red", wheel=Wheel(5), speeds=[3.0])
    parsed = parser.parse_object({"cart": made.init_config})
    again = parser.instantiate(parsed).cart
    assert type(again) is Painted
    assert {k: v for k, v in record(again).items() if v is not None} == record(made) | {
        "spares": [],
        "path": "road",
    }


@pytest.mark.parametrize(
    "connector",
    [
        functools.partial(MLPConnector, depth=3),
        lambda in_dim, out_dim: MLPConnector(in_dim, out_dim, depth=3),
        lambda in_dim, out_dim: MLPConnector(out_dim=out_dim, in_dim=in_dim, depth=3),
    ],
    ids=["partial", "function", "function by name"],
)
def test_records_what_a_callable_made_without_what_was_derived(
    connector: Callable[[int, int], Connector],
) -> None:
    assert record(Factory(connector))["connector"] == {
        "class_path": "lit_vlm.connectors.mlp.MLPConnector",
        "init_args": {"depth": 3, "activation": "gelu", "width": None, "pretrained": None},
    }


def test_records_a_class_given_as_a_callable() -> None:
    assert record(Factory(LinearConnector))["connector"] == {
        "class_path": "lit_vlm.connectors.linear.LinearConnector",
        "init_args": {"norm": False, "pretrained": None},
    }


def test_records_a_callable_that_may_be_none() -> None:
    assert record(Factory())["second"] is None
    second = record(Factory(second=LinearConnector))["second"]
    assert second["class_path"].endswith("LinearConnector")


def test_records_a_callable_that_a_subclass_hands_on() -> None:
    made = record(DerivedFactory(connector=functools.partial(MLPConnector, depth=1)))
    others = {"activation": "gelu", "width": None, "pretrained": None}
    assert made["connector"]["init_args"] == {"depth": 1, **others}


@pytest.mark.parametrize(
    "value", [torch.zeros(1), {1, 2}, object(), print], ids=lambda value: type(value).__name__
)
def test_refuses_what_it_cannot_record(value: Any) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"Cart\.load: must be a number.* got {kind}\. A check"):
        Cart("a", load={"nested": [value]})


def test_refuses_arguments_without_a_name() -> None:
    with pytest.raises(TypeError, match="Loose: arguments that .* by name, got 2 by position"):
        Loose("a", None)


def python_model() -> VisionLanguageModel:
    return VisionLanguageModel(
        TimmEncoder(
            "vit_tiny_patch16_224",
            layers=[1, -1],
            image_size=16,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            config={"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
        ),
        CausalLanguageModel(
            config={
                "model_type": "llama",
                "vocab_size": 300,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            }
        ),
        connector=functools.partial(MLPConnector, depth=3),
        fusion=functools.partial(PickLevel, level=0),
        prompt=Plain(),
        betas=(0.9, 0.99),
        warmup=0.1,
    )


def test_a_model_has_the_same_record_in_python_and_from_the_command_line() -> None:
    made = python_model()
    config = made.init_config
    cli = LightningCLI(
        VisionLanguageModel,
        subclass_mode_model=True,
        run=False,
        args={"model": config, "trainer": {"logger": False}},
        save_config_callback=None,
        seed_everything_default=False,
    )
    assert type(cli.model) is VisionLanguageModel
    assert cli.model.init_config == config
    assert cli.model.rebuild_config() == made.rebuild_config()
    assert cli.model.connector.init_config == made.connector.init_config
