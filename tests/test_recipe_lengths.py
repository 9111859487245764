from lit_vlm.recipe_lengths import counted, stage_lengths
from lit_vlm.stages import Stage


def lengths(
    stages: list[Stage], max_steps: int | None = None, max_epochs: int | None = None
) -> list[str]:
    return [length.text for length in stage_lengths(stages, max_steps, max_epochs)]


def test_lengths_are_given_as_far_as_the_config_tells() -> None:
    steps, epoch = Stage(trains=["*"], steps=1000), Stage(trains=["*"], epochs=1)
    share, rest = Stage(trains=["*"], share=0.3), Stage(trains=["*"])
    assert lengths([steps, epoch]) == ["1,000 steps", "1 epoch"]
    assert lengths([steps, rest], max_steps=1500) == ["1,000 steps", "500 steps"]
    assert lengths([steps, rest]) == ["1,000 steps", "the rest"]
    assert lengths([share, rest]) == ["30% of the run", "70% of the run"]
    assert lengths([share, rest], max_steps=100) == ["30 steps", "70 steps"]
    assert lengths([epoch, rest], max_epochs=3) == ["1 epoch", "2 epochs"]
    assert lengths([epoch, rest], max_steps=9) == ["1 epoch", "the rest"]
    assert lengths([rest], max_epochs=12) == ["12 epochs"]
    assert lengths([rest]) == ["no end"]


def test_counts_with_the_right_word() -> None:
    assert [counted(1, "step"), counted(2000, "batch", "es")] == ["1 step", "2,000 batches"]
