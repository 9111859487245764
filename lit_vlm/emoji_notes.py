"""What is written beside the emoji: what they are, and whose."""

README = """# Emoji and their names

`google.jsonl` and `twitter.jsonl` each list {count:,} emoji, in the same order: `image` (a file
below this folder, 64 x 64 pixels, transparent), `caption` (the emoji's English name; each is there
once), `hexcode` (its code points) and `category`.

Splits: train on `google.jsonl`, test on `twitter.jsonl`. The names are the same in both, the
drawings of the second are never seen in training. There is no validation split: whoever tunes
something should hold out a part of `google.jsonl` for it, not look at `twitter.jsonl`.
"""
LICENCES = """# Licences

- `google/`: Noto Emoji, copyright Google LLC, Apache-2.0,
  https://github.com/googlefonts/noto-emoji
- `twitter/`: Twemoji, copyright Twitter, Inc. and other contributors, CC-BY 4.0 (name them where
  you show the pictures), https://github.com/jdecked/twemoji
- which picture shows what (emoji-datasource, copyright Cal Henderson): MIT, see
  `emoji-datasource-google.txt`, https://github.com/iamcal/emoji-data
- the names (emojibase-data, copyright Miles Johnson): MIT, see `emojibase-data.txt`,
  https://github.com/milesj/emojibase

The pictures are unchanged.
"""
