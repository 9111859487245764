import pytest

from lit_vlm.metrics.caption_words import caption_words


# As Stanford's PTBTokenizer of pycocoevalcap 1.2 splits them, without its punctuation.
@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog can't run.", "a man 's dog ca n't run"),
        (
            "Two red-haired girls (twins); it's 3.5 m!",
            "two red-haired girls -lrb- twins -rrb- it 's 3.5 m",
        ),
        ("The dogs' bowls are empty -- all...", "the dogs bowls are empty all"),
        ('A sign "No Parking"', "a sign no parking"),
        ("Mr. Smith at 10:30 a.m. near St. Mary's.", "mr. smith at 10:30 a.m. near st. mary 's"),
        ("1,000 people & 50% and/or", "1,000 people & 50 % and/or"),
        ("He cannot; he's gonna. gotta", "he can not he 's gon na got ta"),
        ("don’t use “curly” quotes", "do n't use curly quotes"),
        ("a 2-story house w/ a 1/2 door", "a 2-story house w / a 1/2 door"),
        ("the beach.he is at $5.00 #1", "the beach.he is at $ 5.00 # 1"),
        ("café in Zürich", "café in zürich"),
        (" \n", ""),
    ],
)
def test_splits_as_the_penn_treebank_does(caption: str, words: str) -> None:
    assert caption_words(caption) == words.split()
