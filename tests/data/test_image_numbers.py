import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vlm.data.image_numbers import renumber_images


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("Is image 2 red?", "Is image 3 red?"),
        ("Image 1, then IMAGE 2.", "Image 1, then IMAGE 3."),
        ("images 1 and 2", "images 1 and 3"),
        ("pictures 1, 1, and 2 show", "pictures 1, 1, and 3 show"),
        ("Which of images 2, 1?", "Which of images 3, 1?"),
        ("image 1 or 2?", "image 1 or 3?"),
        ("In image 1, 2 dogs; image 1 and 2 dogs", "In image 1, 2 dogs; image 1 and 2 dogs"),
        ("In images 1 and 2, 2 dogs", "In images 1 and 3, 2 dogs"),
        ("Picture #2 & photo 2", "Picture #3 & photo 3"),
        ("the second image; Second picture", "the third image; Third picture"),
        ("image 3 and image 0", "image 3 and image 0"),
        ("image 22, 2 images, imagine 2", "image 22, 2 images, imagine 2"),
        ("2 dogs in image 1 and 3 cats", "2 dogs in image 1 and 3 cats"),
        ("for a second, images", "for a second, images"),
        ("image " + "2" * 5000, "image " + "2" * 5000),
        ("", ""),
    ],
)
def test_only_what_names_an_image_by_number_moves(text: str, moved: str) -> None:
    assert renumber_images(text, [1, 3]) == moved


@given(numbers=st.permutations([1, 2, 3, 4]), text=st.text(max_size=30))
def test_numbers_that_stay_and_texts_without_them_are_left_alone(
    numbers: list[int], text: str
) -> None:
    sentence = "images 1, 2 and 3, image 4, the first image, the fourth picture"
    assert renumber_images(sentence, [1, 2, 3, 4]) == sentence
    back = [numbers.index(number) + 1 for number in (1, 2, 3, 4)]
    assert renumber_images(renumber_images(sentence, numbers), back) == sentence
    assert renumber_images(text.replace("1", ""), []) == text.replace("1", "")


def test_an_ordinal_beyond_the_eighth_stays() -> None:
    assert renumber_images("the first image", [9]) == "the first image"
