import pytest

from lit_vlm.data.class_numbers import check_class_names, numbers_among, order_of_names


def test_orders_names_by_letter_and_numbers_by_size() -> None:
    assert order_of_names(["dog", "cat", "dog"]) == ("cat", "dog")
    assert order_of_names(["10", "9", "1"]) == ("1", "9", "10")
    assert order_of_names(["10", "9", "a"]) == ("10", "9", "a")


def test_classes_in_another_order_keep_their_numbers() -> None:
    assert numbers_among(["b", "a"], ["a", "b"], "val and train") == [1, 0]


def test_names_the_classes_that_only_one_source_has() -> None:
    with pytest.raises(ValueError, match=r"test and train must have the same classes, got 2 and 8"):
        numbers_among(["a", "z"], list("abcdefgh"), "test and train")
    with pytest.raises(ValueError, match="only in test: z; only in train: b, c, d, e, f and 2 mo"):
        numbers_among(["a", "z"], list("abcdefgh"), "test and train")


@pytest.mark.parametrize("classes", [[], ["a", "a"], "ab"])
def test_refuses_what_is_no_list_of_different_names(classes: list[str]) -> None:
    with pytest.raises(ValueError, match="X: classes must be a list of different names"):
        check_class_names("X", classes)
