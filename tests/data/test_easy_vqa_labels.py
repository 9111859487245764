import pytest

from lit_vlm.data import (
    EasyVQACaptions,
    EasyVQALabels,
    ImageClassificationDataModule,
    ImageTextDataModule,
)


@pytest.fixture(scope="module")
def labels() -> EasyVQALabels:
    """The test pictures' classes."""
    source = EasyVQALabels("test")
    source.prepare()
    return source


@pytest.fixture(scope="module")
def captions() -> EasyVQACaptions:
    """The test pictures' captions."""
    source = EasyVQACaptions("test")
    source.prepare()
    return source


def test_has_a_class_for_each_colour_and_shape(labels: EasyVQALabels) -> None:
    assert len(labels.classes) == 24
    assert labels.classes == tuple(sorted(labels.classes))
    assert len(labels) == 888
    assert labels.num_left_out == 112
    assert {labels.label(i) for i in range(len(labels))} == set(range(24))
    assert labels.picture(0).size == (64, 64)


def test_captions_agree_with_classes(labels: EasyVQALabels, captions: EasyVQACaptions) -> None:
    told = {captions.name(i): captions.captions(i) for i in range(len(captions))}
    for index in range(len(labels)):
        color, shape = labels.classes[labels.label(index)].split()
        expected = (f"a {color} {shape}", f"a {color} shape", f"a {shape}")
        assert told[labels.name(index)] == expected


def test_pictures_held_out_of_the_labels_are_held_out_of_the_captions() -> None:
    told = ImageTextDataModule(EasyVQACaptions("test"), val=0.05)
    classed = ImageClassificationDataModule(EasyVQALabels("test"), val=0.05)
    sides = {}
    for data in (told, classed):
        for split in ("train", "val"):
            pictures = data.pictures(split)
            located = (pictures.source_of(i) for i in range(len(pictures)))
            sides[data, split] = {source.identity(place) for source, place in located}
    assert sides[classed, "val"] <= sides[told, "val"]
    assert sides[classed, "val"].isdisjoint(sides[told, "train"])
    assert sides[told, "val"].isdisjoint(sides[classed, "train"])
    assert 25 < len(sides[classed, "val"]) < 65
    assert "easy-VQA test 0.png" in sides[told, "train"] | sides[told, "val"]


def test_captions_tell_what_is_known(captions: EasyVQACaptions) -> None:
    assert len(captions) == 988
    assert captions.num_left_out == 12
    counts = [len(captions.captions(i)) for i in range(len(captions))]
    assert (counts.count(3), counts.count(1)) == (888, 100)
