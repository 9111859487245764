import pytest

from lit_vlm.pattern_cover import covers


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [
        ("encoder", "encoder", True),
        ("encoder", "encoder.blocks.3", True),
        ("encoder.blocks.3", "encoder", False),
        ("encoder", "encoders", False),
        ("enc*", "encoder.norm", True),
        ("encoder.blocks.20-", "encoder.blocks.20", True),
        ("encoder.blocks.20-", "encoder.blocks.19", False),
        ("encoder.blocks.20-", "encoder.blocks.22-", True),
        ("encoder.blocks.20-23", "encoder.blocks.22-", False),
        ("encoder.blocks.4", "encoder.blocks.4-", False),
        ("encoder.*.norm", "encoder.blocks.attn", False),
    ],
)
def test_a_pattern_covers_what_it_means_and_what_is_inside(
    pattern: str, other: str, expected: bool
) -> None:
    assert covers(pattern, other) is expected
