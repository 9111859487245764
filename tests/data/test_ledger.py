import json
from pathlib import Path

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import EasyVQA
from lit_vlm.data.collation import Skipped
from lit_vlm.data.ledger import SkipLedger


def _ledger(tmp_path: Path, ceilings: list[int]) -> SkipLedger:
    sources = [EasyVQA("train") for _ in ceilings]
    for source, ceiling in zip(sources, ceilings, strict=True):
        source.max_skipped = ceiling
    return SkipLedger(tmp_path / "run" / "skipped-train.jsonl", sources)


def test_writes_each_sample_down_once(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path, [5])
    assert not ledger.path.exists()
    ledger.record([Skipped(3, 0, "größe: gone"), Skipped(7, 0, "broken")])
    ledger.record([Skipped(3, 0, "größe: gone")])
    lines = ledger.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"sample": 3, "reason": "größe: gone"},
        {"sample": 7, "reason": "broken"},
    ]
    assert ledger.total == 2


def test_stops_above_the_ceiling_of_a_source(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path, [1, 5])
    ledger.record([Skipped(1, 0, "one"), Skipped(2, 1, "two"), Skipped(3, 1, "three")])
    message = r"more than max_skipped=1 samples .* named in .*skipped-train\.jsonl; the last: four"
    with pytest.raises(BadSampleError, match=message):
        ledger.record([Skipped(4, 0, "four")])
    assert len(ledger.path.read_text().splitlines()) == 4


def test_a_ceiling_of_zero_allows_none(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match="more than max_skipped=0 samples"):
        _ledger(tmp_path, [0]).record([Skipped(1, 0, "one")])
