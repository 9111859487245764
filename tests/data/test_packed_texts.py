import pytest

from lit_vlm.data.packed_texts import PackedTexts


def test_is_the_list_that_it_was_made_from() -> None:
    texts = ["", "bär", "🦊 fox", "", "a\udcff.png"]
    packed = PackedTexts(texts)
    assert list(packed) == texts
    assert [packed[i] for i in range(-5, 5)] == texts + texts
    assert packed[1:4:2] == ["bär", ""]
    assert len(packed) == 5
    assert list(PackedTexts()) == []


def test_ends_where_the_list_ends() -> None:
    with pytest.raises(IndexError):
        PackedTexts(["a"])[1]
