"""Words of captions, nearly as the Penn Treebank tokenizer finds them."""

import re

_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})
_NAMES = ("-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-")
_BRACKETS = dict(zip("()[]{}", _NAMES, strict=True))
_DROPPED = set("'\"`.?!,:-;–—…")
# Two words that are written as one: don't, cannot, gonna, wanna, gotta.
_JOINED = re.compile(r"(?<=\w)(?=n't\b)|\bcan(?=not\b)|\bgon(?=na\b)|\bwan(?=na\b)|\bgot(?=ta\b)")
_WORD = re.compile(
    r"""
    n't\b | '(?:s|m|d|re|ll|ve)\b        # the second part of such a word
    | (?:[^\W\d_]\.){2,}                 # u.s.
    | (?:mr|mrs|ms|dr|st|jr|sr|vs)\.     # titles keep their full stop
    | \d+(?:[.,:/]\d+)+(?![\w])          # 3.5, 1,000, 10:30, 1/2
    | [^\W_]+(?:[-./&][^\W_]+)*          # red-haired, and/or
    | [^\w\s] | _+
    """,
    re.VERBOSE,
)


def caption_words(caption: str) -> list[str]:
    """Return the words of a caption, in lower case and without punctuation.

    As in the Penn Treebank, "doesn't" is two words (``does``, ``n't``), and so is "man's". Captions
    of COCO's kind come out as from Stanford's tokenizer, which needs Java; abbreviations and words
    with unusual signs may not.

    Example:
        >>> caption_words("A man's red-haired dog doesn't bark.")
        ['a', 'man', "'s", 'red-haired', 'dog', 'does', "n't", 'bark']
    """
    text = _JOINED.sub(lambda found: f"{found[0]} ", caption.lower().translate(_STRAIGHT))
    return [_BRACKETS.get(word, word) for word in _WORD.findall(text) if word not in _DROPPED]
