"""Keeping versions of a person's file: copies named after their content, and a note beside them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from resources.errors import MendableError
from resources.files import SHARED, write_whole

SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz"})
"""Suffixes that say how a file is written."""

_CHUNK: Final = 1 << 20

Note = TypeVar("Note")


def format_suffix(file: Path) -> str:
    """Return the format suffixes of a file, such as ``.jsonl.gz``; ``.data`` where it has none."""
    known: list[str] = []
    for suffix in reversed(file.suffixes):
        if suffix.lower() not in SUFFIXES:
            break
        known.insert(0, suffix.lower())
    return "".join(known) or ".data"


def now(timespec: str = "auto") -> str:
    """The time of a version, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec=timespec)


@contextmanager
def writing(folder: Path, error: type[MendableError]) -> Iterator[None]:
    """Make a folder to write into; say which one can't be written, and what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as problem:
        raise error(
            f"{folder}: can't be written ({problem.strerror}). Make it writable, free some space, "
            "or set OPENCS_HOME to a folder that you may write to."
        ) from problem


def copy_hashed(source: BinaryIO, copy: Path) -> tuple[str, int]:
    """Copy a stream into a file; return the SHA-256 and the number of its bytes."""
    digest, size = hashlib.sha256(), 0
    with copy.open("wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return digest.hexdigest(), size


def write_note(path: Path, note: Mapping[str, Any]) -> None:
    """Write the fields that are known about a version."""
    write_whole(path, (json.dumps(note, indent=2) + "\n").encode(), SHARED)


def read_note(
    path: Path, made: Callable[[dict[str, Any]], Note], error: type[MendableError]
) -> Note | None:
    """The object that ``made`` makes of a note's fields; ``None`` where there is no note."""
    try:
        return made(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise error(
            f"{path}: can't be read ({problem!r}). Remove it and add the file again."
        ) from problem
