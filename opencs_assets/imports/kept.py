"""The files that were imported, as they came: ``<home>/verdicts/<sha256><suffix>``.

Beside each stands ``<sha256>.import.json``: the name that the file had, what was said about it, and
when. Both are written under a temporary name and moved into place. Nothing is ever removed, so
that the tables can be made anew from them at any time.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import check

FOLDER: Final = "verdicts"
BESIDE: Final = ".import.json"
SHORTEST_PREFIX: Final = 8
_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".gz"})
# A temporary file is its owner's alone, but daemon, runs and people may be different users.
_MODE: Final = 0o644

State = Literal["new", "unchanged", "other options"]


@dataclass(frozen=True)
class KeptFile:
    """One imported file.

    Attributes:
        sha256: Hex SHA-256 of its bytes.
        path: Where it is kept.
        name: Name that it had.
        options: What was said about it.
        imported_at: When it was first imported, ISO 8601 in UTC.
        form: Its form; only where the call that returned this looked.
        state: What that call did.
    """

    sha256: str
    path: Path
    name: str
    options: ImportOptions
    imported_at: str
    form: str = ""
    state: State = "unchanged"


def keep(home: Path, file: Path, options: ImportOptions) -> KeptFile:
    """Keep a copy of a file, if it can be imported.

    The same content again changes nothing, unless something else is said about it.

    Args:
        home: The home.
        file: The file.
        options: What is said about it; what means nothing to its form is left out.

    Raises:
        VerdictFileError: The file is not there, not understood, an option is missing, or the folder
            can't be written.
    """
    data = _read(file)
    sha256 = hashlib.sha256(data).hexdigest()
    before = _beside(home / FOLDER / f"{sha256}{BESIDE}")
    # What was said the first time holds until something else is said.
    said = options if options.given() or before is None else before.options
    form = check(data, str(file), said)
    said = said.only(form.uses)
    if not said.given() and before is not None:
        said = before.options
    kept = KeptFile(
        sha256,
        home / FOLDER / f"{sha256}{_suffix(file)}",
        file.name,
        said,
        datetime.now(UTC).isoformat(),
        form.name,
        "new",
    )
    if before is not None:
        state: State = "unchanged" if before.options == said else "other options"
        kept = replace(before, options=said, form=form.name, state=state)
    try:
        if not _is_whole(kept):
            _write(kept.path, data)
        if kept.state != "unchanged":
            _write(home / FOLDER / f"{sha256}{BESIDE}", _told(kept))
    except OSError as error:
        raise VerdictFileError(
            f"{home / FOLDER} can't be written: {error.strerror}. Make it writable, free some "
            "space, or set OPENCS_HOME to a folder that you may write to"
        ) from None
    return kept


def kept_files(home: Path) -> list[KeptFile]:
    """All imported files in the order in which they were first imported.

    Raises:
        VerdictFileError: What stands beside a file can't be read.
    """
    found = [_beside(path) for path in (home / FOLDER).glob(f"*{BESIDE}")]
    return sorted(
        (each for each in found if each is not None),
        key=lambda each: (each.imported_at, each.name, each.sha256),
    )


def find_kept(home: Path, named: str) -> KeptFile:
    """The imported file that a person names: by a path to a copy, its name, or its hash.

    Args:
        home: The home.
        named: A path, the name that it had, or the first 8 or more characters of its SHA-256.

    Raises:
        VerdictFileError: There is none, or several; the message lists them.
    """
    files = kept_files(home)
    path = Path(named)
    if path.is_file():
        sha256 = hashlib.sha256(_read(path)).hexdigest()
        found = [each for each in files if each.sha256 == sha256]
    else:
        found = [each for each in files if each.name == named]
        if not found and len(named) >= SHORTEST_PREFIX:
            found = [each for each in files if each.sha256.startswith(named)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{each.name} ({each.sha256[:SHORTEST_PREFIX]})" for each in found or files)
    if not found:
        raise VerdictFileError(
            f"{named} was not imported; imported are: {listed or 'none'}. Give a file, its name or "
            f"the first {SHORTEST_PREFIX} characters of its hash"
        )
    raise VerdictFileError(f"{named} fits several imported files: {listed}; give the hash")


def files_under(path: Path) -> list[Path]:
    """The files that a path means: itself, or all in the folder and those below.

    Hidden ones are left out.

    Raises:
        VerdictFileError: There is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise VerdictFileError(f"{path} is neither a file nor a folder")
    found = sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
    )
    if not found:
        raise VerdictFileError(f"the folder {path} has no file")
    return found


def read_kept(kept: KeptFile) -> bytes:
    """The bytes of an imported file.

    Raises:
        VerdictFileError: It is gone, or was changed.
    """
    data = _read(kept.path)
    if hashlib.sha256(data).hexdigest() != kept.sha256:
        raise VerdictFileError(
            f"{kept.path} was changed since it was imported; import {kept.name} again"
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerdictFileError(f"{path} can't be read: {error.strerror}") from None


def _is_whole(kept: KeptFile) -> bool:
    try:
        read_kept(kept)
    except VerdictFileError:
        return False
    return True


def _suffix(file: Path) -> str:
    """The format suffixes of a name, such as ``.jsonl.gz``."""
    known: list[str] = []
    for suffix in reversed(file.suffixes):
        if suffix.lower() not in _SUFFIXES:
            break
        known.insert(0, suffix.lower())
    return "".join(known) or ".data"


def _told(kept: KeptFile) -> bytes:
    content = {
        "file": kept.path.name,
        "name": kept.name,
        "options": kept.options.given(),
        "imported_at": kept.imported_at,
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _beside(path: Path) -> KeptFile | None:
    try:
        found = json.loads(path.read_bytes())
        return KeptFile(
            path.name.removesuffix(BESIDE),
            path.parent / found["file"],
            found["name"],
            ImportOptions(**found["options"]),
            found["imported_at"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerdictFileError(
            f"{path} can't be read ({error!r}); remove it and import the file again"
        ) from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent) as temporary:
        temporary.write_bytes(content)
        temporary.chmod(_MODE)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """The path of a file that is gone afterwards, unless it was moved."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
