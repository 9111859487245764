from pathlib import Path

import pytest

from lit_vlm.run_folder import (
    check_output,
    check_writable,
    is_name,
    keep_as,
    make_room,
    pick_checkpoint,
    resolve_checkpoint,
)


def run_in(folder: Path, text: str) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


def test_moves_earlier_runs_to_numbered_folders(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_in(folder, "first")
    assert make_room(folder) == tmp_path / "run.1"
    run_in(folder, "second")
    assert make_room(folder) == tmp_path / "run.2"
    assert (tmp_path / "run.1/metrics.csv").read_text() == "first"
    assert (tmp_path / "run.2/metrics.csv").read_text() == "second"
    assert list(folder.iterdir()) == []


def test_leaves_a_folder_without_a_run_in_place(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("of a run that failed before its first step")
    assert make_room(tmp_path) is None
    assert (tmp_path / "config.yaml").exists()


def test_makes_missing_folders(tmp_path: Path) -> None:
    assert make_room(tmp_path / "a/b/c") is None
    assert (tmp_path / "a/b/c").is_dir()


def test_refuses_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"must be writable, got .*file/run \(Not a directory\)\. .*"):
        check_writable(tmp_path / "file/run")


def test_refuses_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Choose another by --output FILE"):
        check_output(tmp_path / "file/predictions.jsonl")
    with pytest.raises(IsADirectoryError, match="--output must be a file, got the folder"):
        check_output(tmp_path)


def test_checks_an_output_without_making_it(tmp_path: Path) -> None:
    check_output(tmp_path / "new/predictions.jsonl")
    assert list((tmp_path / "new").iterdir()) == []


def make_checkpoints(folder: Path, *names: str) -> dict[str, str]:
    (folder / "checkpoints").mkdir(parents=True)
    paths = {name: folder / f"checkpoints/{name}.ckpt" for name in names}
    for name, path in paths.items():
        path.write_text(name)
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.parametrize("name", ["last", "best", "selected", "stage-align"])
def test_resolves_the_names_of_a_runs_checkpoints(tmp_path: Path, name: str) -> None:
    path = make_checkpoints(tmp_path, name)[name]
    assert is_name(name)
    assert not is_name(path)
    assert resolve_checkpoint(name, tmp_path) == path
    assert resolve_checkpoint(path, Path("elsewhere")) == path


def test_of_another_run_takes_what_was_selected_or_the_best_or_the_last(tmp_path: Path) -> None:
    paths = make_checkpoints(tmp_path / "run", "last", "best", "selected")
    for name in ("selected", "best", "last"):
        assert resolve_checkpoint(str(tmp_path / "run"), Path("elsewhere")) == paths[name]
        Path(paths[name]).unlink()
    message = r"must be a run that has a checkpoint, got .*run: there is no selected\.ckpt, best"
    with pytest.raises(FileNotFoundError, match=message):
        pick_checkpoint(tmp_path / "run")


def test_takes_a_folder_of_shards_for_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    path.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="there is no"):
        resolve_checkpoint("last", tmp_path)
    (path / "meta.pt").touch()
    assert resolve_checkpoint("last", tmp_path) == resolve_checkpoint(str(path), tmp_path)


@pytest.mark.parametrize("name", ["last", "x.ckpt", "stage-algin"])
def test_names_the_checkpoint_that_is_missing(tmp_path: Path, name: str) -> None:
    make_checkpoints(tmp_path, "best", "stage-align")
    message = rf"got '{name}': there is no .*\. That run has: best, stage-align\.$"
    with pytest.raises(FileNotFoundError, match=message):
        resolve_checkpoint(name, tmp_path)


def test_says_how_a_checkpoint_comes_to_be_selected(tmp_path: Path) -> None:
    message = r"That run has: no checkpoints\. A checkpoint is selected when fit ends, .*selection"
    with pytest.raises(FileNotFoundError, match=message):
        resolve_checkpoint("selected", tmp_path)


def test_another_name_outlives_a_change_of_the_first(tmp_path: Path) -> None:
    best, selected = tmp_path / "best.ckpt", tmp_path / "selected.ckpt"
    for content in ("first", "second"):
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").replace(best)
        assert not selected.exists() or selected.read_text() == "first"
        keep_as(best, selected)
        assert selected.read_text() == content
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "selected.ckpt"}


def test_a_folder_of_shards_is_copied(tmp_path: Path) -> None:
    best, selected = tmp_path / "best.ckpt", tmp_path / "selected.ckpt"
    best.mkdir()
    for content in ("first", "second"):
        (best / "meta.pt").write_text(content)
        keep_as(best, selected)
        assert (selected / "meta.pt").read_text() == content
