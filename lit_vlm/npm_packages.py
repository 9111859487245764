"""Files out of packages of the npm registry, each checked against the sum of its release."""

import base64
import hashlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

_REGISTRY = "https://registry.npmjs.org"
_CHUNK = 1 << 18
_SECONDS = 60


class NpmPackage(NamedTuple):
    """One release of a package.

    Attributes:
        name: the package's name.
        version: the release's.
        integrity: base64 of the SHA-512 of its file, as the registry's metadata states it.
    """

    name: str
    version: str
    integrity: str

    @property
    def file_name(self) -> str:
        """What the registry, and ``npm pack``, call the file."""
        return f"{self.name}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """Where the registry has the file."""
        return f"{_REGISTRY}/{self.name}/-/{self.file_name}"

    def members(self, folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Yield the wanted files of the package in a folder, by their names in it.

        Args:
            folder: where the package's file is.
            wanted: says for a name, such as ``en/data.json``, whether the file is to be read.
        """
        with tarfile.open(folder / self.file_name) as package:
            for member in package:
                name = member.name.removeprefix("package/")
                content = package.extractfile(member) if member.isfile() and wanted(name) else None
                if content is not None:
                    yield name, content.read()


def check_package(package: NpmPackage, folder: Path) -> None:
    """Check that the package's file is in a folder, and is what was released.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it holds something else.
    """
    path = folder / package.file_name
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} must hold {package.file_name}, got no such file. Download it from "
            f"{package.url}."
        )
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = base64.b64encode(digest.digest()).decode()
    if found != package.integrity:
        raise ValueError(
            f"{path}: must have the SHA-512 of the release, {package.integrity[:16]}..., got "
            f"{found[:16]}.... Download it again from {package.url}."
        )


def download_packages(packages: tuple[NpmPackage, ...], folder: Path) -> None:
    """Download packages into a folder, with a bar that shows how far it has come.

    Raises:
        OSError: if the registry cannot be reached; the message says how to do without.
        ValueError: if what came is not what was released.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for package in packages:
            task = progress.add_task(package.file_name, total=None)
            try:
                for done, total in _download(package.url, folder / package.file_name):
                    progress.update(task, completed=done, total=total)
            except OSError as error:
                raise OSError(_without_network(packages, package, error)) from error
            check_package(package, folder)


def _download(url: str, path: Path) -> Iterator[tuple[int, int | None]]:
    with urlopen(url, timeout=_SECONDS) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        done = 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            yield done, int(length) if length else None


def _without_network(packages: tuple[NpmPackage, ...], missing: NpmPackage, error: OSError) -> str:
    files = "\n".join(f"  {package.url}" for package in packages)
    return (
        f"{missing.url} must be reachable, got: {error}. Without a network, download these files "
        f"elsewhere, put them into a folder, and pass it by --source FOLDER:\n{files}"
    )
