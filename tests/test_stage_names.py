import pytest

from lit_vlm.errors import ConfigError
from lit_vlm.stage_names import check_stage_names

CONFIG = {"staged_freezing": {"stages": {"align": {"trains": ["a"]}, "tune": {"trains": ["b"]}}}}


def test_a_misspelt_stage_is_named_with_the_one_that_was_meant() -> None:
    message = r"tun is new and must name .* got steps alone\. Did you mean: tune\?"
    with pytest.raises(ConfigError, match=message):
        check_stage_names([CONFIG, {}], ["--staged_freezing.stages.tun.steps", "3"])
    with pytest.raises(ConfigError, match="must name what it trains"):
        check_stage_names([], ["--staged_freezing.stages.tun.steps=3"])


@pytest.mark.parametrize(
    "words",
    [
        "--staged_freezing.stages.tune.steps 3",
        "--staged_freezing.stages.new.steps=3 --staged_freezing.stages.new.trains [a]",
        "--staged_freezing.stages={} --staged_freezing.stages.new.steps 3",
        "--staged_freezing.cycle true",
    ],
)
def test_known_and_whole_stages_are_accepted(words: str) -> None:
    check_stage_names([CONFIG], words.split())
