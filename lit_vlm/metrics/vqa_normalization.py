"""Answers as the evaluation of VQA compares them."""

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
_ARTICLES = ("a", "an", "the")
_PERIODS = 32  # `re.UNICODE`, which is passed where the number of replacements belongs
# Meant to spare full stops behind a digit, but a look-ahead for "<=" always succeeds.
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_SHORTENED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def normalize_vqa_answer(text: str) -> str:
    """Return an answer as VQA's evaluation compares it, by its rules in their order.

    Line breaks and tabs become spaces; punctuation goes, or becomes a space where none touches it;
    full stops go unless a digit follows; then lower case, digits for number words up to ten, no
    articles, and apostrophes where they were forgotten.

    Source:
        VQA (Antol et al., 2015), https://github.com/GT-Vision-Lab/VQA, ``vqaEval.py``, with what it
        does by mistake: at most 32 full stops go, also behind a digit; one comma inside a number
        lets all punctuation go without a space.

    Example:
        >>> normalize_vqa_answer("The two Red-Buses."), normalize_vqa_answer("it isnt, 1,000")
        ('2 red buses', "it isn't 1000")
    """
    return _plain_words(_without_punctuation(strip_breaks(text)))


def strip_breaks(text: str) -> str:
    """Return a text without line breaks and tabs, and without white space around it."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str) -> str:
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    kept = text
    for mark in _PUNCTUATION:
        touches_space = f"{mark} " in text or f" {mark}" in text
        kept = kept.replace(mark, "" if touches_space or in_number else " ")
    return _PERIOD.sub("", kept, count=_PERIODS)


def _plain_words(text: str) -> str:
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _misspellings(word: str) -> list[str]:
    """Return a contraction with one of its apostrophes forgotten."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


# The one entry that takes an apostrophe away is in the official table too.
_CONTRACTIONS = {"somebody'd": "somebodyd"} | {
    wrong: word for word in _SHORTENED.split() for wrong in _misspellings(word)
}
