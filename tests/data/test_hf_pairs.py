import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.conversation import BadSampleError
from lit_vlm.data.hf_pairs import HuggingFacePairs

datasets = pytest.importorskip("datasets")
Png = Callable[[int], bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def _data(png: Png, begin: int, end: int, **columns: Any) -> Any:
    pictures = [{"bytes": png(place), "path": None} for place in range(begin, end)]
    captions = [f"picture {place}" for place in range(begin, end)]
    table = {"image": pictures, "caption": captions, **columns}
    return datasets.Dataset.from_dict(table).cast_column("image", datasets.Image())


def _read(source: HuggingFacePairs) -> list[tuple[Any, tuple[str, ...]]]:
    source.prepare()
    places = range(len(source))
    return [(source.picture(i).getpixel((0, 0))[0], source.captions(i)) for i in places]  # type: ignore[index]


def _expected(begin: int, end: int) -> list[tuple[Any, tuple[str, ...]]]:
    return [(place, (f"picture {place}",)) for place in range(begin, end)]


def test_reads_what_was_saved_to_disk(tmp_path: Path, png: Png) -> None:
    _data(png, 0, 3).save_to_disk(tmp_path / "one")
    assert _read(HuggingFacePairs(tmp_path / "one")) == _expected(0, 3)


def test_reads_one_split_of_several(tmp_path: Path, png: Png) -> None:
    both = datasets.DatasetDict({"train": _data(png, 0, 3), "test": _data(png, 3, 5)})
    both.save_to_disk(tmp_path / "both")
    source = HuggingFacePairs(tmp_path / "both", split="test")
    assert _read(source) == _expected(3, 5)
    assert source.name(1) == f"{tmp_path / 'both'} test row 1"
    with pytest.raises(ValueError, match=r"split must be one of .* \(train, test\), got none"):
        HuggingFacePairs(tmp_path / "both").prepare()
    with pytest.raises(ValueError, match=r"split must be one of .* got 'val'"):
        HuggingFacePairs(tmp_path / "both", split="val").prepare()


def test_reads_parquet_files_as_the_hub_names_them(tmp_path: Path, png: Png) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    _data(png, 0, 2).to_parquet(folder / "train-00000-of-00002.parquet")
    _data(png, 2, 5).to_parquet(folder / "train-00001-of-00002.parquet")
    _data(png, 5, 6).to_parquet(folder / "test-00000-of-00001.parquet")
    assert _read(HuggingFacePairs(tmp_path / "hub", split="train")) == _expected(0, 5)
    assert _read(HuggingFacePairs(folder / "test-00000-of-00001.parquet")) == _expected(5, 6)
    with pytest.raises(ValueError, match=r"\(test, train\), got none"):
        HuggingFacePairs(tmp_path / "hub").prepare()


def test_takes_lists_and_several_columns_of_captions(tmp_path: Path, png: Png) -> None:
    texts = [["a ", "", "b"], []]
    data = _data(png, 0, 2, texts=texts, other=["c", None])
    data.save_to_disk(tmp_path / "data")
    source = HuggingFacePairs(tmp_path / "data", caption_column=["texts", "other"])
    source.prepare()
    assert source.captions(0) == ("a", "b", "c")
    with pytest.raises(BadSampleError, match=r"row 1: must have a caption in texts or other"):
        source.captions(1)


def test_reads_paths_from_the_datas_folder(tmp_path: Path, png: Png) -> None:
    rows = {"image": ["0.png", "gone.png", None], "caption": ["a", "b", "c"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "data")
    (tmp_path / "data" / "0.png").write_bytes(png(9))
    source = HuggingFacePairs(tmp_path / "data")
    source.prepare()
    assert source.picture(0).getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(BadSampleError, match=r"row 1: there is no image .*gone.png. Mend it"):
        source.picture(1)
    with pytest.raises(BadSampleError, match="row 2: must have a picture, got none"):
        source.picture(2)


def test_names_the_row_whose_picture_is_broken(tmp_path: Path) -> None:
    rows = {"image": [b"no picture"], "caption": [1]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "data")
    source = HuggingFacePairs(tmp_path / "data")
    source.prepare()
    with pytest.raises(BadSampleError, match="row 0: the picture cannot be read"):
        source.picture(0)
    with pytest.raises(BadSampleError, match="caption must be a text or a list of texts, got 1"):
        source.captions(0)


def test_explains_what_is_not_there(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="path must be a folder that save_to_disk wrote"):
        HuggingFacePairs(tmp_path / "nowhere").prepare()
    with pytest.raises(ValueError, match="caption_column must name a column, got none"):
        HuggingFacePairs(tmp_path, caption_column=[])
    _data(png, 0, 1).save_to_disk(tmp_path / "data")
    with pytest.raises(ValueError, match="got 'text'. It has: image, caption"):
        HuggingFacePairs(tmp_path / "data", caption_column="text").prepare()
    _data(png, 0, 0).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match="none must hold rows, got none"):
        HuggingFacePairs(tmp_path / "none").prepare()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "lit-vlm\[datasets\]"'):
        HuggingFacePairs(tmp_path / "data").prepare()


def test_is_rebuilt_with_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = HuggingFacePairs("data", caption_column="text").rebuild_config()
    assert record["init_args"]["path"] == str(tmp_path / "data")
    assert record["init_args"]["caption_column"] == "text"
