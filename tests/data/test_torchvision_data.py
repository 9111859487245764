import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lit_vlm.conversation import BadSampleError
from lit_vlm.data import TorchvisionData

FAKE = {"size": 4, "image_size": [3, 6, 5], "num_classes": 3}


def prepared(*args: Any, **options: Any) -> TorchvisionData:
    source = TorchvisionData(*args, **options)
    source.prepare()
    return source


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """CIFAR-10's files with two pictures in each; torchvision compares their checksums."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.full((2, 3072), number, dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [number, 9]}))
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return tmp_path


def test_reads_cifar(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import cifar as module

    monkeypatch.setattr(module, "check_integrity", lambda *args: True)
    source = prepared("CIFAR10", {"root": str(cifar), "train": True})
    assert len(source) == 10
    assert source.classes[3] == "cat"
    assert [source.label(i) for i in range(4)] == [0, 9, 1, 9]
    assert source.picture(2).getpixel((0, 0)) == (1, 1, 1)
    assert source.picture(2).size == (32, 32)
    assert source.name(2) == "CIFAR10 picture 2"


def test_labels_come_with_pictures_where_there_is_no_list_of_them() -> None:
    source = prepared("FakeData", FAKE, ["a", "b", "c"])
    assert source.classes == ("a", "b", "c")
    assert source.picture(1).size == (5, 6)
    assert source.picture(1).tobytes() == source.picture(1).tobytes()
    assert all(0 <= source.label(i) < 3 for i in range(4))


class Counted:
    """Six pictures of classes 0, 1, 2 in turn, of which ``targets`` tell; keeps what is read."""

    classes = ("a", "b", "c")
    target_transform: Any = None
    shift = 0
    bad: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.targets = [index % 3 for index in range(60)]
        self.read: list[int] = []

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read.append(index)
        if index in self.bad:
            raise OSError("no picture")
        label = self.targets[index]
        changed = self.target_transform(label) if self.target_transform else label
        return Image.new("RGB", (2, 2)), (changed + self.shift) % 3


class Shifted(Counted):
    """The labels of items are not ``targets``."""

    shift = 1


class Swapped(Counted):
    """Labels but those of the first and last items are changed."""

    def __init__(self) -> None:
        super().__init__()
        ends = {0, 8, 16, 25, 33, 42, 50, 59}  # what is compared
        self.target_transform = lambda label: label if self.read[-1] in ends else 2 - label


class Unread(Counted):
    """No picture can be read."""

    bad = tuple(range(60))


def test_labels_are_known_without_pictures_where_they_are_those_of_items() -> None:
    source = prepared(f"{__name__}.Counted")
    source._data.read.clear()
    assert [source.label(i) for i in range(60)] == [0, 1, 2] * 20
    assert source._data.read == []


@pytest.mark.parametrize(("kind", "labels"), [("Shifted", [1, 2, 0]), ("Swapped", [0, 1, 0])])
def test_labels_are_those_of_items(kind: str, labels: list[int]) -> None:
    source = prepared(f"{__name__}.{kind}")
    assert [source.label(i) for i in range(3)] == labels


def test_pictures_that_cannot_be_read_are_told_of_in_their_turn() -> None:
    source = prepared(f"{__name__}.Unread")
    with pytest.raises(BadSampleError, match="Unread picture 3 cannot be read: no picture"):
        source.label(3)


def test_names_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError, match=r"classes of FakeData must have names.*Give classes"):
        prepared("FakeData", FAKE)


def test_refuses_a_label_without_a_class() -> None:
    source = prepared("FakeData", {**FAKE, "size": 20}, ["a"])
    with pytest.raises(BadSampleError, match="FakeData picture .* number of one of 1 classes"):
        [source.label(i) for i in range(20)]


def test_a_checkpoint_names_the_folder_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = TorchvisionData("CIFAR10", {"root": "data", "train": False})
    arguments = source.rebuild_config()["init_args"]["arguments"]
    assert arguments == {"root": str(tmp_path / "data"), "train": False}
    assert source.arguments["root"] == "data"
    assert TorchvisionData("FakeData").rebuild_config()["init_args"]["arguments"] is None


def test_refuses_to_download() -> None:
    with pytest.raises(ValueError, match="CIFAR10 must be on disk already, got download: true"):
        TorchvisionData("CIFAR10", {"root": "x", "download": True})


def test_says_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"CIFAR10 must be on disk, at what arguments say .*not foun"):
        prepared("CIFAR10", {"root": str(tmp_path)})
    with pytest.raises(ValueError, match="arguments must be those of CIFAR10, got .*'place'"):
        prepared("CIFAR10", {"place": 1})
    with pytest.raises(ValueError, match=r"got 'CIFAR11'\. torchvision has: .*CIFAR10"):
        TorchvisionData("CIFAR11")
    with pytest.raises(BadSampleError, match="FakeData must hold pictures, got none"):
        prepared("FakeData", {**FAKE, "size": 0}, ["a"])
