from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.data import ImageFolder
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
    assert (len(rest), len(part)) == (5, 2)
    assert sorted(reds(rest) + reds(part)) == list(range(7))
    assert reds(joined.split(0.3, seed=1)[1]) == reds(part)
    assert len({tuple(reds(joined.split(0.3, seed)[1])) for seed in range(9)}) > 3
    assert [rest.sources[rest.locate(i)[0]] for i in rest.of_sources([1])] == [
        joined.sources[1]
    ] * len(rest.of_sources([1]))


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_a_share_must_leave_pictures_on_both_sides(
    joined: JoinedPictures[ImageFolder], share: float
) -> None:
    with pytest.raises(ValueError, match=f"pictures on both sides, got {share} of 7 pictures"):
        joined.split(share, seed=0)


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
