from pathlib import Path

import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import ImageFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cats, one of them deeper, and a dog."""
    for name in ("dog/a.png", "cat/b.png", "cat/more/c.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red" if "cat" in name else "blue").save(tmp_path / name)
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_folders_are_classes_by_name(folder: Path) -> None:
    source = ImageFolder(folder)
    source.prepare()
    assert source.classes == ("cat", "dog")
    assert [source.label(i) for i in range(len(source))] == [0, 0, 1]
    assert [Path(source.name(i)).name for i in range(3)] == ["b.png", "c.JPG", "a.png"]
    assert source.picture(2).getpixel((0, 0)) == (0, 0, 255)


def test_classes_that_are_given_are_read_in_their_order(folder: Path) -> None:
    source = ImageFolder(folder, classes=["dog"])
    source.prepare()
    assert source.classes == ("dog",)
    assert len(source) == 1


def test_says_what_it_leaves_out(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"1 files in .* are no pictures.*notes\.txt"):
        ImageFolder(folder).prepare()


def test_names_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="root must be a folder, got .*none, which is none"):
        ImageFolder(tmp_path / "none").prepare()
    with pytest.raises(BadSampleError, match="a folder for each class, got 1 files and no folder"):
        ImageFolder(folder / "dog").prepare()
    with pytest.raises(FileNotFoundError, match="got 'fox', which is none in .*: cat, dog"):
        ImageFolder(folder, classes=["fox"]).prepare()
    (folder / "fox").mkdir()
    with pytest.raises(BadSampleError, match=r"must have pictures, got none in .*fox\. Remove"):
        ImageFolder(folder).prepare()


def test_names_a_picture_that_cannot_be_read_and_how_to_go_on(folder: Path) -> None:
    (folder / "dog" / "a.png").write_bytes(b"x")
    source = ImageFolder(folder)
    source.prepare()
    with pytest.raises(BadSampleError, match=r"dog/a\.png cannot be read.*on_bad_image: skip"):
        source.picture(2)


def test_a_checkpoint_names_the_folder_in_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    source = ImageFolder(folder.name, on_bad_image="skip", max_skipped=3)
    assert source.rebuild_config()["init_args"] == {
        "root": str(folder),
        "classes": None,
        "on_bad_image": "skip",
        "max_skipped": 3,
    }


def test_refuses_a_ceiling_below_zero(folder: Path) -> None:
    with pytest.raises(ValueError, match="max_skipped must not be negative, got -1"):
        ImageFolder(folder, max_skipped=-1)
