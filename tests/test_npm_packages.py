import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from lit_vlm.npm_packages import NpmPackage, check_package, download_packages

CONTENT = b"a package" * 100


@pytest.fixture
def package() -> NpmPackage:
    return NpmPackage("one", "1.2.3", base64.b64encode(hashlib.sha512(CONTENT).digest()).decode())


class _Answer(io.BytesIO):
    headers: dict[str, Any] = {"Content-Length": str(len(CONTENT))}


def test_downloads_a_release_and_shows_how_far_it_is(
    package: NpmPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def answer(url: str, timeout: int) -> _Answer:
        asked.append(url)
        return _Answer(CONTENT)

    monkeypatch.setattr("lit_vlm.npm_packages.urlopen", answer)
    download_packages((package,), tmp_path)
    assert asked == ["https://registry.npmjs.org/one/-/one-1.2.3.tgz"]
    assert (tmp_path / "one-1.2.3.tgz").read_bytes() == CONTENT
    assert "one-1.2.3.tgz" in capsys.readouterr().err


def test_refuses_a_file_that_was_changed(package: NpmPackage, tmp_path: Path) -> None:
    (tmp_path / package.file_name).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="must have the SHA-512 of the release"):
        check_package(package, tmp_path)
    (tmp_path / package.file_name).write_bytes(CONTENT)
    check_package(package, tmp_path)


def test_names_the_file_that_is_missing(package: NpmPackage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold one-1.2.3.tgz, got no such file"):
        check_package(package, tmp_path)
