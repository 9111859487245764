from collections.abc import Callable, Sequence

import pytest

from lit_vlm.class_names import (
    accepted_options,
    annotation_of,
    classes_within,
    derived_options,
    known_classes,
    names_in,
    names_of_kind,
)
from lit_vlm.connectors import Connector
from lit_vlm.data import ConversationSource
from lit_vlm.fusions import Fusion

MODEL = "lit_vlm.model.VisionLanguageModel"
MLP = "lit_vlm.connectors.MLPConnector"


def test_knows_the_public_classes_of_every_family() -> None:
    wanted = {"VisionLanguageModel", "TimmEncoder", "PickLevel", "MLPConnector", "Plain", "Freeze"}
    assert wanted <= known_classes().keys()


def test_names_what_can_be_used_as_a_part() -> None:
    names = names_of_kind((Connector,))
    assert {"LinearConnector", "MLPConnector"} <= set(names)
    assert not {"Connector", "PickLevel"} & set(names)


def test_names_modules_and_own_classes_inside_a_module() -> None:
    assert {"connectors", "encoders"} <= set(names_in("lit_vlm"))
    assert names_in("lit_vlm.connectors.mlp") == ["MLPConnector"]


@pytest.mark.parametrize(
    ("annotation", "classes"),
    [
        (Connector, (Connector,)),
        (Callable[[int, int], Connector], (Connector,)),
        (ConversationSource | Sequence[ConversationSource] | None, (ConversationSource,)),
        (Callable[[Sequence[int]], Fusion] | None, (Fusion,)),
        (int | None, ()),
        (None, ()),
    ],
)
def test_finds_the_component_classes_in_a_type(
    annotation: object, classes: tuple[type, ...]
) -> None:
    assert classes_within(annotation) == classes


def test_knows_which_arguments_follow_from_other_parts() -> None:
    assert derived_options(MLP, annotation_of(MODEL, "connector")) == ["in_dim", "out_dim"]
    assert derived_options(MLP, annotation_of(MODEL, "learning_rate")) == []
    assert annotation_of(MODEL, "no_such_argument") is None
    assert accepted_options(MLP) == [
        "in_dim",
        "out_dim",
        "depth",
        "activation",
        "width",
        "pretrained",
    ]
