"""Text files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file for writing, in UTF-8, that takes its name once all is written.

    Lines end as they are written. Folders on the way to it are made. If something is raised,
    nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a", "b.txt")
        ...     with whole_file(path) as file:
        ...         _ = file.write("all of it")
        ...         path.exists()
        ...     path.read_text()
        False
        'all of it'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
