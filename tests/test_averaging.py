from pathlib import Path

import torch
from torch.testing import assert_close

from lit_vlm.averaging import RecentWeights, average_weights, write_average


def keep(recent: RecentWeights, *steps: int) -> None:
    for step in steps:
        recent.keep({"w": torch.full((2,), float(step)), "n": torch.tensor(step)}, step)


def test_keeps_the_newest_states(tmp_path: Path) -> None:
    recent = RecentWeights(tmp_path, 3)
    keep(recent, 1, 2, 3, 4, 5)
    assert list(recent.steps().values()) == [3, 4, 5]
    keep(recent, 5)
    assert list(recent.steps().values()) == [3, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"recent-{i}.ckpt" for i in (0, 1, 2)
    ]


def test_a_resumed_run_goes_on_with_the_states_before_it(tmp_path: Path) -> None:
    keep(RecentWeights(tmp_path, 3), 1, 2, 3, 4)
    resumed = RecentWeights(tmp_path, 3)
    resumed.begin(3)
    assert list(resumed.steps().values()) == [2, 3]
    keep(resumed, 6)
    assert list(resumed.steps().values()) == [2, 3, 6]
    new = RecentWeights(tmp_path, 3)
    new.begin(0)
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_ring_forgets_the_places_it_has_not(tmp_path: Path) -> None:
    keep(RecentWeights(tmp_path, 3), 1, 2, 3)
    smaller = RecentWeights(tmp_path, 2)
    smaller.begin(9)
    assert list(smaller.steps().values()) == [1, 2]


def test_averages_numbers_and_takes_the_newest_counts() -> None:
    states = [
        {"w": torch.tensor([1.0, 4.0], dtype=torch.float16), "n": torch.tensor(1)},
        {"w": torch.tensor([2.0, 6.0], dtype=torch.float16), "n": torch.tensor(9)},
    ]
    made = average_weights(states)
    assert_close(made["w"], torch.tensor([1.5, 5.0], dtype=torch.float16))
    assert made["n"] == 9


def test_writes_the_last_checkpoint_with_other_weights(tmp_path: Path) -> None:
    last = {"global_step": 5, "state_dict": {"w": torch.zeros(2), "n": torch.tensor(5)}}
    torch.save(last, tmp_path / "last.ckpt")
    recent = RecentWeights(tmp_path, 2)
    keep(recent, 2)
    target = tmp_path / "average.ckpt"
    assert write_average(recent, tmp_path / "last.ckpt", target) == []
    assert not target.exists()
    keep(recent, 4)
    assert write_average(recent, tmp_path / "last.ckpt", target) == [2, 4]
    content = torch.load(target, weights_only=True)
    assert content["global_step"] == 5
    assert_close(content["state_dict"], {"w": torch.full((2,), 3.0), "n": torch.tensor(4)})


def test_leaves_states_of_another_shape_out(tmp_path: Path) -> None:
    last = {"global_step": 5, "state_dict": {"w": torch.zeros(3)}}
    torch.save(last, tmp_path / "last.ckpt")
    recent = RecentWeights(tmp_path, 3)
    for step, size in ((1, 2), (2, 3), (3, 3)):
        recent.keep({"w": torch.full((size,), float(step))}, step)
    assert write_average(recent, tmp_path / "last.ckpt", tmp_path / "average.ckpt") == [2, 3]
    (tmp_path / "recent-2.ckpt").unlink()
    assert write_average(recent, tmp_path / "last.ckpt", tmp_path / "average.ckpt") == []
