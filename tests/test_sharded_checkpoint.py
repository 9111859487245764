import os
from pathlib import Path

import pytest

from lit_vlm.sharded_checkpoint import put_in_place


def folder_with(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "meta.pt").write_text(content)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("former", ["nothing", "a file", "a folder"])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path: Path, former: str) -> None:
    target = tmp_path / "last.ckpt"
    if former == "a file":
        target.touch()
    elif former == "a folder":
        folder_with(target, "old")
    put_in_place(folder_with(tmp_path / "new", "new"), target)
    assert (target / "meta.pt").read_text() == "new"
    assert names(tmp_path) == {"last.ckpt"}


def test_stopped_at_any_time_it_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder_with(tmp_path / "last.ckpt", "old")
    beside = folder_with(tmp_path / "new", "new")
    rename = os.rename

    def stop_at_the_second(source: Path, place: Path) -> None:
        if place == target:
            raise KeyboardInterrupt
        rename(source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            put_in_place(beside, target)
    assert (tmp_path / "last.ckpt.previous/meta.pt").read_text() == "old"
    # The next write does not touch what is left until its own content is in place.
    put_in_place(beside, target)
    assert (target / "meta.pt").read_text() == "new"
    assert names(tmp_path) == {"last.ckpt"}
