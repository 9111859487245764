import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_vlm.data import JSONConversations
from lit_vlm.data.sources import Subset, as_list, image_key

Write = Callable[[list[bool]], Path]


def test_a_key_stands_for_a_path_however_it_is_written(tmp_path: Path) -> None:
    absolute = tmp_path / "a.png"
    keys = {image_key(absolute), image_key(str(absolute)), image_key(os.path.relpath(absolute))}
    assert len(keys) == 1
    assert image_key(tmp_path / "b.png") not in keys


def test_a_subset_shows_some_samples_in_its_own_order(color_questions: Write) -> None:
    source = JSONConversations(color_questions([True, False, True]))
    source.prepare()
    subset = Subset(source, [2, 0])
    assert [subset[i].id for i in range(len(subset))] == ["sample-2", "sample-0"]
    assert subset.image_keys(1) == source.image_keys(0)
    assert subset.lengths().tolist() == source.lengths()[[2, 0]].tolist()


def test_texts_pass_over_samples_that_cannot_be_used(color_questions: Write) -> None:
    path = color_questions([False, False])
    path.write_text(path.read_text().replace('"from": "human"', '"from": "nobody"', 1))
    source = JSONConversations(path, on_bad_sample="skip")
    source.prepare()
    assert list(source.texts()) == ["color number 1?", "it is green"]


def test_a_stage_may_have_no_source_one_or_several(color_questions: Write) -> None:
    source = JSONConversations(color_questions([True]))
    assert as_list(None) == []
    assert as_list(source) == [source]
    assert as_list((source, source)) == [source, source]


def test_refuses_a_negative_ceiling() -> None:
    with pytest.raises(ValueError, match="max_skipped must not be negative, got -1"):
        JSONConversations("data.jsonl", max_skipped=-1)
