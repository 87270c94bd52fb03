"""The catalog of sources: where the files behind the datasets are kept.

``<home>/datasets/<name>/`` holds one immutable file a version, named after its content, and
``current.json``, which says which of them is the dataset. Files are written under a temporary name
and moved into place, so nobody ever reads half a version.
"""

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, Final

from opencs_assets.datasets.errors import DatasetError

FOLDER: Final = "datasets"
CURRENT: Final = "current.json"
MAX_NAME_CHARS: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KNOWN_SUFFIXES: Final = frozenset(
    {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz"}
)
_CHUNK: Final = 1 << 20
# A temporary file is its owner's alone, but daemon, runs and jobs may be different users.
_MODE: Final = 0o644


@dataclass(frozen=True)
class Source:
    """One version of a dataset's file.

    Attributes:
        name: The dataset's name.
        path: The version's file in the catalog.
        sha256: Hex SHA-256 of its bytes.
        original: Name of the file that was added.
        bytes: Its size.
        added_at: When it was added, ISO 8601 in UTC.
        is_new_version: Whether the call that returned this made it the current version.
    """

    name: str
    path: Path
    sha256: str
    original: str
    bytes: int
    added_at: str
    is_new_version: bool


def slug_error(name: str) -> str | None:
    """Return what is wrong with a dataset's name, or None where it is right.

    A name becomes a folder and a partition key, so it must be safe in both.
    """
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_CHARS:
        return f"has {len(name)} characters, more than {MAX_NAME_CHARS}"
    if _NAME.fullmatch(name):
        return None
    special = {
        "/": "`/` would make a folder inside a folder",
        "\\": "`\\` would make a folder inside a folder on some systems",
        "|": "`|` separates the dimensions of a partition key",
        "..": "`..` would leave the datasets' folder",
        " ": "a space is not allowed",
    }
    for part, why in special.items():
        if part in name:
            return why
    wrong = next((char for char in name if not re.fullmatch(r"[a-z0-9_-]", char)), None)
    if wrong is not None:
        return f"{wrong!r} is not allowed; use lower-case letters, digits, `_` and `-`"
    return f"starts with {name[0]!r}; start with a letter or a digit"


def suggest_name(text: str) -> str:
    """Return a valid name that resembles the text; ``dataset`` where nothing of it is usable."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_-]+", "-", ascii_text).lstrip("-_")[:MAX_NAME_CHARS]
    return slug.rstrip("-_") or "dataset"


def check_name(name: str) -> None:
    """Accept a valid dataset name.

    Raises:
        DatasetError: The name is not a slug; the message says why and suggests one.
    """
    problem = slug_error(name)
    if problem is not None:
        raise DatasetError(
            f"dataset name {name!r}: {problem}. Use for example {suggest_name(name)!r}."
        )


def name_of_file(path: Path) -> str:
    """Return the default name for a file: its stem without format extensions, as a slug."""
    stem = Path(path.name)
    while stem.suffix.lower() in _KNOWN_SUFFIXES:
        stem = stem.with_suffix("")
    return suggest_name(stem.name)


def add_source(home: Path, file: Path, name: str | None) -> Source:
    """Copy a file into the catalog and make it the dataset's current version.

    The same content again changes nothing; other content becomes a version beside the older ones.

    Args:
        home: The platform's folder, ``OPENCS_HOME``.
        file: The file to copy.
        name: The dataset's name; None for the one that the file's name suggests.

    Raises:
        DatasetError: The name is not a slug, the file is absent, empty, no regular file or
            unreadable, or the catalog can't be written.
    """
    if name is None:
        name = name_of_file(file)
    check_name(name)
    folder = home / FOLDER / name
    with _opened(file) as source, _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as copy:
            sha256, size = _copy(source, copy)
            if not size:
                raise DatasetError(f"{file}: is empty (0 bytes). Name a file with samples.")
            current = _current(folder)
            if current is not None and current.sha256 == sha256 and current.path.is_file():
                return current
            added = Source(
                name=name,
                path=folder / f"{sha256[:16]}{_extension(file)}",
                sha256=sha256,
                original=file.name,
                bytes=size,
                added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                is_new_version=True,
            )
            _place(copy, added.path)
        _write_current(folder, added)
    return added


def current_source(home: Path, name: str) -> Source:
    """Return a dataset's current version.

    Raises:
        DatasetError: The name is not a slug, there is no such dataset, or its entry or file is
            damaged.
    """
    check_name(name)
    source = _current(home / FOLDER / name)
    if source is None:
        known = ", ".join(_names(home)) or "none"
        raise DatasetError(f"no dataset {name!r} in {home / FOLDER}; known: {known}. Add it first.")
    if not source.path.is_file():
        raise DatasetError(
            f"{source.path}: the current version of {name!r} is missing. Add the file again."
        )
    return source


def list_sources(home: Path) -> list[Source]:
    """Return the current version of every dataset, by name.

    Raises:
        DatasetError: An entry or its file is damaged.
    """
    return [current_source(home, name) for name in _names(home)]


def _names(home: Path) -> list[str]:
    """Return the datasets that have a current version; a folder without one is half added."""
    entries = sorted((home / FOLDER).glob(f"*/{CURRENT}"))
    return [entry.parent.name for entry in entries if slug_error(entry.parent.name) is None]


def _extension(file: Path) -> str:
    """Return the format extensions of a file, such as ``.jsonl.gz``."""
    known: list[str] = []
    for suffix in reversed(file.suffixes):
        if suffix.lower() not in _KNOWN_SUFFIXES:
            break
        known.insert(0, suffix.lower())
    return "".join(known) or ".data"


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """Open the file to add, and say what is wrong with it."""
    advice = "Name a JSON, JSONL, CSV or Parquet file that exists and may be read."
    if file.is_dir():
        raise DatasetError(f"{file}: is a folder, not a file. {advice}")
    if file.exists() and not file.is_file():
        raise DatasetError(f"{file}: is not a regular file. {advice}")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise DatasetError(f"{file}: can't be read ({error.strerror}). {advice}") from error
    with stream:
        yield stream


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say which folder can't be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{folder}: can't be written ({error.strerror}). Make it writable, free some space, or "
            "set OPENCS_HOME to a folder that you may write to."
        ) from error


@contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """Open a file under a temporary name; it is gone afterwards, unless it was placed."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            yield file.file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _copy(source: BinaryIO, copy: IO[bytes]) -> tuple[str, int]:
    """Copy a stream; return the SHA-256 and the number of its bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        copy.write(chunk)
    return digest.hexdigest(), size


def _place(file: IO[bytes], path: Path) -> None:
    """Move a written file into place, once its bytes are on the disk."""
    file.flush()
    os.fchmod(file.fileno(), _MODE)
    os.fsync(file.fileno())
    Path(file.name).replace(path)


def _write_current(folder: Path, source: Source) -> None:
    entry = {
        "file": source.path.name,
        "sha256": source.sha256,
        "original": source.original,
        "bytes": source.bytes,
        "added_at": source.added_at,
    }
    with _temporary(folder) as temporary:
        temporary.write((json.dumps(entry, indent=2) + "\n").encode())
        _place(temporary, folder / CURRENT)


def _current(folder: Path) -> Source | None:
    """Read a dataset's entry; None where there is none."""
    path = folder / CURRENT
    try:
        entry = json.loads(path.read_bytes())
        return Source(
            name=folder.name,
            path=folder / entry["file"],
            sha256=entry["sha256"],
            original=entry["original"],
            bytes=entry["bytes"],
            added_at=entry["added_at"],
            is_new_version=False,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: can't be read ({error!r}). Remove it and add the file again."
        ) from error
