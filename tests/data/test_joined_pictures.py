from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lit_vlm.data import ImageFolder, PictureSource
from lit_vlm.data.joined_pictures import JoinedPictures, listed

Numbered = Callable[..., Path]


@pytest.fixture
def joined(numbered: Numbered) -> JoinedPictures[ImageFolder]:
    """Pictures 0, 2, 1, 3 and then 4, 6, 5."""
    sources = [ImageFolder(numbered(4)), ImageFolder(numbered(3, "more", begin=4))]
    for source in sources:
        source.prepare()
    return JoinedPictures(sources)


def reds(pictures: JoinedPictures[ImageFolder]) -> list[int]:
    values = [pictures.picture(i).getpixel((0, 0)) for i in range(len(pictures))]
    return [value[0] // 10 for value in values if isinstance(value, tuple)]


def test_numbers_pictures_through(joined: JoinedPictures[ImageFolder]) -> None:
    assert reds(joined) == [0, 2, 1, 3, 4, 6, 5]
    assert [joined.locate(i) for i in (0, 3, 4, 6)] == [(0, 0), (0, 3), (1, 0), (1, 2)]
    assert joined.of_sources([1]) == [4, 5, 6]


def test_parts_are_in_order_and_hold_each_picture_once(joined: JoinedPictures[ImageFolder]) -> None:
    rest, part = joined.split(0.3, seed=1)
    order = reds(joined)
    assert [number for number in order if number in reds(rest)] == reds(rest)
    assert [number for number in order if number in reds(part)] == reds(part)
    assert sorted(reds(rest) + reds(part)) == list(range(7))
    assert reds(joined.split(0.3, seed=1)[1]) == reds(part)
    assert len({tuple(reds(joined.split(0.3, seed)[1])) for seed in range(30)}) > 3
    assert [rest.sources[rest.locate(i)[0]] for i in rest.of_sources([1])] == [
        joined.sources[1]
    ] * len(rest.of_sources([1]))


class Named(ImageFolder):
    """Pictures that are no files, but have names."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("")
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def identity(self, index: int) -> str:
        return PictureSource.identity(self, index)


def names(pictures: JoinedPictures[Named]) -> list[str]:
    located = (pictures.source_of(i) for i in range(len(pictures)))
    return [source.name(place) for source, place in located]


def test_seed_and_identity_alone_decide_what_is_held_out() -> None:
    some = [str(number) for number in range(1000)]
    rest, part = JoinedPictures([Named(some)]).split(0.2, seed=5)
    assert 150 < len(part) < 250
    others = [Named([*some[::-2], *some[:300]]), Named(some[100:200])]
    other_rest, other_part = JoinedPictures(others).split(0.2, seed=5)
    assert set(names(other_part)) == set(names(part)) & set(names(JoinedPictures(others)))
    assert set(names(other_rest)).isdisjoint(names(part))
    assert names(part)[:3] == ["4", "5", "10"]  # the same on every machine


def test_parts_may_be_parted_again() -> None:
    rest, part = JoinedPictures([Named(["a", "b", "c", "d", "e", "f"])]).split(0.5, seed=2)
    again = rest.split(0.5, seed=3)
    assert sorted([*names(again[0]), *names(again[1])]) == names(rest)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_picture_at_least_is_on_each_side(share: float) -> None:
    pictures = JoinedPictures([Named(["a", "b", "c", "a", "b", "c"])])
    rest, part = pictures.split(share, seed=0)
    few, many = sorted([names(rest), names(part)], key=len)
    assert (len(few), len(many)) == (2, 4)
    assert set(few).isdisjoint(many)


def test_one_picture_cannot_be_shared_out() -> None:
    pictures = JoinedPictures([Named(["a", "a"])])
    with pytest.raises(ValueError, match=r"two different pictures .*got 2 times a\. Give val a so"):
        pictures.split(0.5, seed=0)


def test_pictures_kept_in_memory_are_read_once(joined: JoinedPictures[ImageFolder]) -> None:
    kept = JoinedPictures(joined.sources, in_memory=True)
    before = reds(kept)
    for index in range(len(kept)):
        source, place = kept.source_of(index)
        Path(source.name(place)).unlink()
    assert reds(kept) == before


def test_lists_what_a_split_was_given(joined: JoinedPictures[ImageFolder]) -> None:
    one, other = joined.sources
    assert listed(None) == []
    assert listed(one) == [one]
    assert listed([one, other]) == listed({"a": one, "b": other}) == [one, other]
