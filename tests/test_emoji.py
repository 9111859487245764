import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from PIL import Image

from lit_vlm.emoji import PACKAGES, VENDORS, prepare_emoji
from lit_vlm.npm_packages import NpmPackage

HAND, TONED, KEYCAP = "1F44B", "1F44B-1F3FB", "0023-FE0F-20E3"
NAMES = {HAND: "waving hand", TONED: "waving hand: light skin tone", KEYCAP: "keycap: #"}


def _picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (shade, 0, 0, 255)).save(file, "PNG")
    return file.getvalue()


def _pack(folder: Path, name: str, files: dict[str, bytes]) -> NpmPackage:
    path = folder / f"{name}-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as package:
        for inside, content in files.items():
            member = tarfile.TarInfo(f"package/{inside}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    digest = hashlib.sha512(path.read_bytes()).digest()
    return NpmPackage(name, "1.0.0", base64.b64encode(digest).decode())


def _drawings(vendor: str, without: str = "") -> dict[str, bytes]:
    def one(hexcode: str) -> dict[str, object]:
        return {"unified": hexcode, "image": f"{hexcode.lower()}.png"}

    toned = {"1F3FB": one(TONED)}
    listed = [
        {**one(HAND), "category": "People & Body", "skin_variations": toned},
        {**one(KEYCAP), "category": "Symbols"},
    ]
    pictures = {
        f"img/{vendor}/64/{hexcode.lower()}.png": _picture(shade)
        for shade, hexcode in enumerate(NAMES)
        if hexcode != without
    }
    files = {"LICENSE": b"MIT, Cal", "emoji.json": json.dumps(listed).encode(), **pictures}
    return {**files, f"img/{vendor}/sheets/32.png": b"large"}


def _names(left_out: str = "") -> dict[str, bytes]:
    skins = [{"hexcode": TONED, "label": NAMES[TONED]}]
    entries: list[dict[str, Any]] = [
        {"hexcode": HAND, "label": NAMES[HAND], "skins": skins},
        {"hexcode": "0023-20E3", "label": NAMES[KEYCAP]},  # written without its selector
        {"hexcode": "1FAE9", "label": "a face that nobody has drawn yet"},
    ]
    listed = [entry for entry in entries if entry["hexcode"] != left_out]
    return {"LICENSE": b"MIT, Miles", "en/data.json": json.dumps(listed).encode()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def packages(source: Path) -> tuple[NpmPackage, ...]:
    drawings = [_pack(source, f"emoji-datasource-{name}", _drawings(name)) for name in VENDORS]
    return (*drawings, _pack(source, "emojibase-data", _names()))


def test_names_each_emoji_and_skin_tone_in_both_lists(
    tmp_path: Path, source: Path, packages: tuple[NpmPackage, ...]
) -> None:
    out = tmp_path / "deep" / "emoji"
    assert prepare_emoji(out, source, packages=packages) == 3
    for vendor in VENDORS:
        records = [json.loads(line) for line in (out / f"{vendor}.jsonl").read_text().splitlines()]
        assert [(r["hexcode"], r["caption"]) for r in records] == list(NAMES.items())
        assert [r["category"] for r in records] == ["People & Body"] * 2 + ["Symbols"]
        assert [r["image"].split("/")[0] for r in records] == [vendor] * 3
        shades = [Image.open(out / r["image"]).getpixel((0, 0)) for r in records]
        assert shades == [(shade, 0, 0, 255) for shade in range(3)]
        assert len(list((out / vendor).iterdir())) == 3
    assert "CC-BY 4.0" in (out / "licences" / "README.md").read_text()
    assert (out / "licences" / "emojibase-data.txt").read_bytes() == b"MIT, Miles"
    assert "3 emoji" in (out / "README.md").read_text()
    assert list(out.parent.iterdir()) == [out]


def test_writes_shards_that_share_the_pairs_out(
    tmp_path: Path, source: Path, packages: tuple[NpmPackage, ...]
) -> None:
    prepare_emoji(tmp_path / "emoji", source, shards=2, packages=packages)
    found = {}
    for number in range(2):
        with tarfile.open(tmp_path / "emoji" / "shards" / f"twitter-{number:03d}.tar") as shard:
            found[number] = shard.getnames()
            first = shard.extractfile(shard.getmembers()[1])
            assert first is not None
            assert first.read().decode() == list(NAMES.values())[number]
    assert found[0] == ["1f44b.png", "1f44b.txt", "0023-fe0f-20e3.png", "0023-fe0f-20e3.txt"]
    assert found[1] == ["1f44b-1f3fb.png", "1f44b-1f3fb.txt"]


def test_leaves_nothing_behind_when_it_breaks_off(
    tmp_path: Path, source: Path, packages: tuple[NpmPackage, ...]
) -> None:
    undrawn = _pack(source, "emoji-datasource-twitter", _drawings("twitter", without=TONED))
    with pytest.raises(ValueError, match="got none of img/twitter/64/1f44b-1f3fb.png"):
        prepare_emoji(tmp_path / "emoji", source, packages=(packages[0], undrawn, packages[2]))
    assert list(tmp_path.iterdir()) == [source]


def test_refuses_an_emoji_without_a_name(
    tmp_path: Path, source: Path, packages: tuple[NpmPackage, ...]
) -> None:
    nameless = _pack(source, "emojibase-data", _names(left_out="0023-20E3"))
    with pytest.raises(ValueError, match="got none for 0023-FE0F-20E3"):
        prepare_emoji(tmp_path / "emoji", source, packages=(*packages[:2], nameless))


def test_overwrites_only_what_it_made_and_only_if_asked(
    tmp_path: Path, source: Path, packages: tuple[NpmPackage, ...]
) -> None:
    out = tmp_path / "emoji"
    prepare_emoji(out, source, packages=packages)
    (out / "mine.txt").write_text("kept until it is made anew")
    with pytest.raises(FileExistsError, match="holds emoji already. Use it as it is"):
        prepare_emoji(out, source, packages=packages)
    assert (out / "mine.txt").exists()
    prepare_emoji(out, source, overwrite=True, packages=packages)
    assert not (out / "mine.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emoji", "source"]
    with pytest.raises(FileExistsError, match="exists and holds something else"):
        prepare_emoji(source, source, overwrite=True, packages=packages)


def test_says_which_files_to_put_where_without_a_network(
    tmp_path: Path, packages: tuple[NpmPackage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, timeout: int) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("lit_vlm.npm_packages.urlopen", unreachable)
    with pytest.raises(OSError, match="pass it by --source FOLDER") as caught:
        prepare_emoji(tmp_path / "emoji", packages=packages)
    assert all(package.url in str(caught.value) for package in packages)
    assert not (tmp_path / "emoji").exists()


def test_refuses_a_negative_number_of_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--shards must be 0 or more, got -1"):
        prepare_emoji(tmp_path / "emoji", shards=-1)


def test_knows_the_sum_of_each_release() -> None:
    assert [len(base64.b64decode(package.integrity)) for package in PACKAGES] == [64, 64, 64]
    assert [package.file_name for package in PACKAGES] == [
        "emoji-datasource-google-16.0.0.tgz",
        "emoji-datasource-twitter-16.0.0.tgz",
        "emojibase-data-17.0.0.tgz",
    ]
