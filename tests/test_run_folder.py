from pathlib import Path

import pytest

from lit_vlm.run_folder import check_output, check_writable, make_room, resolve_checkpoint


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


@pytest.mark.parametrize("name", ["last", "best"])
def test_resolves_the_words_last_and_best(tmp_path: Path, name: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / f"checkpoints/{name}.ckpt"
    path.touch()
    assert resolve_checkpoint(name, tmp_path) == str(path)
    assert resolve_checkpoint(str(path), Path("elsewhere")) == str(path)


@pytest.mark.parametrize("name", ["last", "x.ckpt"])
def test_names_the_checkpoint_that_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"got '{name}': there is no"):
        resolve_checkpoint(name, tmp_path)
