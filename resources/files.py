"""Local files that are there as a whole or not at all, whoever is killed while writing them."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The mode of what people drop or take: daemon, runs and people may be different users.
SHARED = 0o644


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Give a name to write to; the file takes its place at ``path`` when the block ends well.

    Where the block raises, what was written is removed and the file at ``path`` stays as it was.
    """
    with temporary(path.parent) as written:
        yield written
        place(written, path, mode)


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Give a name in a folder; a file of that name is removed afterwards, unless it was placed."""
    path = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def place(written: Path, path: Path, mode: int | None = None) -> None:
    """Move a written file to its place, once its bytes are on the disk.

    Without a mode, the umask says who may read and write it.
    """
    with written.open("rb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    written.replace(path)


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file, or replace it, so that nobody reads half of it; ``mode`` as for ``place``."""
    with replacing(path, mode) as written:
        written.write_bytes(content)
