"""The catalog of sources: where the files behind the datasets are kept.

``<home>/datasets/<name>/`` holds one immutable file a version, named after its content, and
``current.json``, which says which of them is the dataset.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opencs_assets.datasets.errors import DatasetError
from opencs_assets.files import versions
from opencs_assets.files.contents import opened
from resources.files import SHARED, place, temporary

FOLDER: Final = "datasets"
CURRENT: Final = "current.json"
MAX_NAME_CHARS: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
# The fields of a version that its entry holds, beside the name of its file.
_NOTED: Final = ("sha256", "original", "bytes", "added_at")


@dataclass(frozen=True)
class Source:
    """One version of a dataset's file: ``path`` in the catalog, and the ``original`` file's name.

    ``added_at`` is ISO 8601 in UTC; ``is_new_version`` says whether the call that returned this
    source made it the current version.
    """

    name: str
    path: Path
    sha256: str
    original: str
    bytes: int
    added_at: str
    is_new_version: bool


def slug_error(name: str) -> str | None:
    """Return what makes a dataset's name unsafe as a folder or a partition key, or None."""
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
    """Return a valid name that resembles the text, or ``dataset`` where no character is usable."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_-]+", "-", ascii_text).lstrip("-_")[:MAX_NAME_CHARS]
    return slug.rstrip("-_") or "dataset"


def check_name(name: str) -> None:
    """Accept a valid dataset name.

    Raises:
        DatasetError: The name is not a slug; the message says why and suggests another.
    """
    problem = slug_error(name)
    if problem is not None:
        raise DatasetError(
            f"dataset name {name!r}: {problem}. Use for example {suggest_name(name)!r}."
        )


def name_of_file(path: Path) -> str:
    """Return the default name for a file: its stem without format extensions, as a slug."""
    stem = Path(path.name)
    while stem.suffix.lower() in versions.SUFFIXES:
        stem = stem.with_suffix("")
    return suggest_name(stem.name)


def add_source(home: Path, file: Path, name: str | None) -> Source:
    """Copy a file into the catalog and make it the dataset's current version.

    The same content again changes nothing; other content becomes a version beside the older ones.
    A dataset without a name gets the one that the file's name suggests.

    Raises:
        DatasetError: The name is not a slug, the file is absent, empty, no regular file or
            unreadable, or the catalog can't be written.
    """
    if name is None:
        name = name_of_file(file)
    check_name(name)
    folder = home / FOLDER / name
    with opened(file, DatasetError) as source, versions.writing(folder, DatasetError):
        with temporary(folder) as copy:
            sha256, size = versions.copy_hashed(source, copy)
            if not size:
                raise DatasetError(f"{file}: is empty (0 bytes). Name a file with samples.")
            current = _current(folder)
            if current is not None and current.sha256 == sha256 and current.path.is_file():
                return current
            path = folder / f"{sha256[:16]}{versions.format_suffix(file)}"
            added = Source(name, path, sha256, file.name, size, versions.now("seconds"), True)
            place(copy, path, SHARED)
        noted = {field: getattr(added, field) for field in _NOTED}
        versions.write_note(folder / CURRENT, {"file": path.name, **noted})
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
    """Return the datasets that have a current version; a folder without one was half added."""
    entries = sorted((home / FOLDER).glob(f"*/{CURRENT}"))
    return [entry.parent.name for entry in entries if slug_error(entry.parent.name) is None]


def _current(folder: Path) -> Source | None:
    """Read a dataset's entry, if there is one."""
    return versions.read_note(
        folder / CURRENT,
        lambda note: Source(
            folder.name,
            folder / note["file"],
            **{field: note[field] for field in _NOTED},
            is_new_version=False,
        ),
        DatasetError,
    )
