"""Emoji with their names, drawn by two vendors: pairs to train a contrastive model on."""

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from lit_vlm.emoji_notes import LICENCES, README
from lit_vlm.npm_packages import NpmPackage, check_package, download_packages

VENDORS = ("google", "twitter")
PACKAGES = (
    NpmPackage(
        "emoji-datasource-google",
        "16.0.0",
        "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    ),
    NpmPackage(
        "emoji-datasource-twitter",
        "16.0.0",
        "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
    ),
    NpmPackage(
        "emojibase-data",
        "17.0.0",
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    ),
)
"""The vendors' drawings, in the order of ``VENDORS``, and the names."""


class _Emoji(NamedTuple):
    image: str
    caption: str
    hexcode: str
    category: str


def prepare_emoji(
    out: Path,
    source: Path | None = None,
    overwrite: bool = False,
    shards: int = 0,
    packages: tuple[NpmPackage, ...] = PACKAGES,
) -> int:
    """Write the emoji as two lists of pictures with captions, one for each vendor's drawings.

    Everything is made beside ``out`` and renamed at the end: the folder is whole, or not there.

    Args:
        out: the folder to make.
        source: a folder with the packages' files; None to download them (143 MB).
        overwrite: put another in the place of a folder that this function made before.
        shards: also write each vendor's pairs as that many WebDataset shards; 0 for none.
        packages: the releases to take them from.

    Returns:
        The number of emoji in each list.

    Raises:
        FileExistsError: if ``out`` exists and may not be overwritten.
        OSError: if a package is missing and cannot be downloaded.
        ValueError: if a package is not the one that was released, or ``shards`` is negative.

    Source:
        emoji-datasource (Henderson, 2013), https://github.com/iamcal/emoji-data, and emojibase
        (Johnson, 2017), https://github.com/milesj/emojibase.
    """
    if shards < 0:
        raise ValueError(f"--shards must be 0 or more, got {shards}.")
    _check_place(out, overwrite)
    for package in packages if source is not None else ():
        check_package(package, source or out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as place:
        made = Path(place, "made")
        if source is None:
            source = Path(place, "packages")
            source.mkdir()
            download_packages(packages, source)
        count = _write_all(made, source, packages, shards)
        _put(made, out, Path(place, "old"))
    return count


def _check_place(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = all((out / f"{vendor}.jsonl").is_file() for vendor in VENDORS)
    if not ours:
        raise FileExistsError(
            f"OUT must be a new folder, got {out}, which exists and holds something else."
        )
    if not overwrite:
        raise FileExistsError(
            f"OUT must be a new folder, got {out}, which holds emoji already. Use it as it is, or "
            f"make it anew by --overwrite."
        )


def _put(made: Path, out: Path, old: Path) -> None:
    if out.exists():
        os.rename(out, old)  # it is deleted with the temporary folder
    os.rename(made, out)


def _write_all(made: Path, source: Path, packages: tuple[NpmPackage, ...], shards: int) -> int:
    *drawings, names = packages
    labels = _labels(names, source)
    emoji: list[_Emoji] = []
    for vendor, package in zip(VENDORS, drawings, strict=True):
        emoji = _read_list(package, source, labels)
        _write_pictures(package, source, vendor, emoji, made)
        lines = [
            json.dumps({**one._asdict(), "image": f"{vendor}/{one.image}"}, ensure_ascii=False)
            for one in emoji
        ]
        (made / f"{vendor}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if shards:
            _write_shards(made, vendor, emoji, shards)
    (made / "README.md").write_text(README.format(count=len(emoji)), encoding="utf-8")
    _write_licences(made, source, (drawings[0], names))
    return len(emoji)


def _labels(package: NpmPackage, source: Path) -> dict[str, str]:
    """Return each emoji's English name by its code points; skin tones have names of their own."""
    entries = _read_json(package, source, "en/data.json")
    each = (one for entry in entries for one in (entry, *entry.get("skins", ())))
    return {_bare(one["hexcode"]): one["label"] for one in each}


def _read_list(package: NpmPackage, source: Path, labels: dict[str, str]) -> list[_Emoji]:
    found = []
    for entry in _read_json(package, source, "emoji.json"):
        for one in (entry, *entry.get("skin_variations", {}).values()):
            label = labels.get(_bare(one["unified"]))
            if label is None:
                raise ValueError(
                    f"{package.file_name}: each emoji must have a name in emojibase-data, got none "
                    f"for {one['unified']}."
                )
            found.append(_Emoji(one["image"], label, one["unified"], entry["category"]))
    return found


def _bare(hexcode: str) -> str:
    # The two packages differ in where they write the variation selector.
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def _read_json(package: NpmPackage, source: Path, name: str) -> Any:
    return json.loads(_read(package, source, name))


def _read(package: NpmPackage, source: Path, name: str) -> bytes:
    return next(content for _, content in package.members(source, name.__eq__))


def _write_pictures(
    package: NpmPackage, source: Path, vendor: str, emoji: list[_Emoji], made: Path
) -> None:
    folder = f"img/{vendor}/64/"
    wanted = {folder + one.image for one in emoji}
    (made / vendor).mkdir(parents=True)
    for name, content in package.members(source, wanted.__contains__):
        (made / vendor / name.removeprefix(folder)).write_bytes(content)
        wanted.remove(name)
    if wanted:
        raise ValueError(
            f"{package.file_name}: must hold a picture of each emoji, got none of "
            f"{min(wanted)} and {len(wanted) - 1} more."
        )


def _write_shards(made: Path, vendor: str, emoji: list[_Emoji], shards: int) -> None:
    (made / "shards").mkdir(exist_ok=True)
    for number in range(shards):
        with tarfile.open(made / "shards" / f"{vendor}-{number:03d}.tar", "w") as shard:
            for one in emoji[number::shards]:
                picture = (made / vendor / one.image).read_bytes()
                for name, content in _sample(one, picture):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    shard.addfile(member, BytesIO(content))


def _sample(one: _Emoji, picture: bytes) -> Iterator[tuple[str, bytes]]:
    yield one.image, picture
    yield f"{Path(one.image).stem}.txt", one.caption.encode()


def _write_licences(made: Path, source: Path, packages: tuple[NpmPackage, ...]) -> None:
    folder = made / "licences"
    folder.mkdir()
    (folder / "README.md").write_text(LICENCES, encoding="utf-8")
    for package in packages:
        (folder / f"{package.name}.txt").write_bytes(_read(package, source, "LICENSE"))
