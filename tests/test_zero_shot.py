from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lit_vlm.zero_shot import check_templates, class_embeddings
from lit_vlm.zero_shot_templates import NAMED, OPENAI, SIMPLE

CLASSES = ("red circle", "blue {square}", "tench", "a", "b", "c", "d")


class Tower:
    """A text encoder of random weights, as open_clip calls one."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(128, 6, generator=generator)

    def tokens(self, texts: list[str]) -> Tensor:
        rows = [[ord(c) for c in text] + [0] * (80 - len(text)) for text in texts]
        return torch.tensor(rows)

    def encode_text(self, tokens: Tensor, normalize: bool) -> Tensor:
        places = 1 + torch.arange(tokens.shape[1]).sin()[:, None]
        vectors = (self.table[tokens] * places).sum(1)
        return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors

    def embed(self, texts: list[str]) -> Tensor:
        return self.encode_text(self.tokens(texts), normalize=False)


@pytest.mark.parametrize("templates", NAMED.values())
def test_equals_open_clips_classifier(templates: tuple[str, ...]) -> None:
    open_clip = pytest.importorskip("open_clip")
    tower: Any = Tower()
    # Its templates are written for str.format, to which a name's own braces mean nothing.
    expected = open_clip.build_zero_shot_classifier(tower, tower.tokens, CLASSES, templates)
    torch.testing.assert_close(class_embeddings(CLASSES, templates, tower.embed), expected.T)


def test_the_named_templates_are_those_of_their_authors() -> None:
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    for ours, theirs in (
        (OPENAI, metadata.OPENAI_IMAGENET_TEMPLATES),
        (SIMPLE, metadata.SIMPLE_IMAGENET_TEMPLATES),
    ):
        assert [t.replace("{}", "x") for t in ours] == [t("x") for t in theirs]
    assert (len(OPENAI), len(SIMPLE)) == (80, 7)


def test_every_texts_vector_counts_alike_whatever_its_length() -> None:
    vectors = {"x 1": [100.0, 0], "x 2": [0, 1.0]}
    [found] = class_embeddings(
        ["x"], ["{} 1", "{} 2"], lambda texts: torch.tensor([vectors[t] for t in texts])
    )
    torch.testing.assert_close(found, normalize(torch.ones(2), dim=0))


def test_encodes_many_classes_a_part_at_a_time() -> None:
    tower, asked = Tower(), []

    def embed(texts: list[str]) -> Tensor:
        asked.append(len(texts))
        return tower.embed(texts)

    names = [f"class {i}" for i in range(30)]
    found = class_embeddings(names, OPENAI, embed)
    assert max(asked) <= 256
    assert sum(asked) == 30 * 80
    torch.testing.assert_close(found[17], class_embeddings(["class 17"], OPENAI, tower.embed)[0])


@pytest.mark.parametrize("templates", [["a photo of a {}.", "a photo"], []])
def test_refuses_templates_that_name_no_class(templates: list[str]) -> None:
    with pytest.raises(ValueError, match="Zero: templates must be texts with {} in place of a cla"):
        check_templates(templates, "Zero")


def test_refuses_no_classes() -> None:
    with pytest.raises(ValueError, match="there must be a class, got none"):
        class_embeddings([], ["{}"], Tower().embed)
