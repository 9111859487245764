from typing import Any

import pytest

from lit_vlm.viewing.stored_record import record_lines


@pytest.mark.parametrize(
    ("record", "lines"),
    [
        ([1, "a"], ["[", " 1,", ' "a"', "]"]),
        ({"id": 1, "messages": "none"}, ["{", ' "id": 1,', ' "messages": "none"', "}"]),
        (
            {"images": ["a.png"], "conversations": [{"from": "gpt", "value": ["a", None]}, 3]},
            ['images: ["a.png"]', 'gpt: "a"null', "3"],
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "path": "a.png"},
                            {"type": "text", "text": "é"},
                            {"type": "image"},
                        ],
                    },
                    {"role": None, "content": "\ud800"},
                    {"content": "x"},
                ],
                "note": 1,
            },
            ["note: 1", 'user: [a.png]é{"type": "image"}', r"null: \ud800", '{"content": "x"}'],
        ),
    ],
)
def test_writes_turns_as_far_as_they_are_turns(record: Any, lines: list[str]) -> None:
    assert list(record_lines(record)) == lines
