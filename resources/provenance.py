"""Provenance: the hash of all that determined an output, and the marker that it is complete.

An expensive output is a folder with ``opencs.json`` in it, written last: what it was made from,
what came out, and size and hash of each file. Whoever reuses the folder verifies it first.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resources.errors import MendableError
from resources.files import write_whole

MARKER = "opencs.json"
SHORT = 16


class ProvenanceError(MendableError):
    """A folder is not what it should be; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Marker:
    """What a complete output says about itself.

    ``provenance`` is the hash of ``fields``, all that determined the output. ``files`` has
    ``bytes`` and ``sha256`` of each file, by name.
    """

    provenance: str
    fields: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form, as hex."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex; remembered while size and time of change stay."""
    state = path.stat()
    return _file_hash(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _file_hash(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions by package; ``absent`` where there is none."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def write_marker(
    folder: Path, provenance: str, fields: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    """Write the marker into a folder whose files are all there; see ``Marker`` for its fields."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    content = {
        "provenance": provenance,
        "fields": dict(fields),
        "result": dict(result),
        "files": files,
    }
    write_whole(folder / MARKER, json.dumps(content, indent=1).encode())


def read_marker(folder: Path) -> Marker:
    """Read a folder's marker.

    Raises:
        ProvenanceError: The folder has no marker, or it can't be read.
    """
    path = folder / MARKER
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProvenanceError(f"{folder} is not complete: it has no {MARKER}") from None
    except (OSError, ValueError) as error:
        raise ProvenanceError(f"{path} can't be read ({error}); make the output again") from None
    return marker_of(content, str(path))


def marker_of(content: Any, where: str) -> Marker:
    """A marker from the JSON value of its file, whose path or URL errors name.

    Raises:
        ProvenanceError: The value is no marker.
    """
    try:
        return Marker(content["provenance"], content["fields"], content["result"], content["files"])
    except (KeyError, TypeError) as error:
        raise ProvenanceError(f"{where} can't be read ({error}); make the output again") from None


def check_fields(marker: Marker, provenance: str, where: str) -> None:
    """Check that a marker is unedited and of this provenance; errors name the output's place.

    Raises:
        ProvenanceError: The marker was edited, or is of another provenance.
    """
    if content_hash(marker.fields) != marker.provenance:
        raise ProvenanceError(f"{where}/{MARKER} was edited: its fields do not give its hash")
    if marker.provenance != provenance:
        raise ProvenanceError(
            f"{where} is another output: made from {marker.provenance[:SHORT]}, expected "
            f"{provenance[:SHORT]}"
        )


def verify(folder: Path, provenance: str, *, contents: bool = True) -> Marker:
    """Verify that a folder is whole and is the output of this provenance.

    Without ``contents`` only the sizes of the files are compared, and not their hashes.

    Raises:
        ProvenanceError: It was made from something else, or a file is missing or changed.
    """
    marker = read_marker(folder)
    check_fields(marker, provenance, str(folder))
    for name, expected in marker.files.items():
        path = folder / name
        if not path.is_file():
            raise ProvenanceError(f"{path} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise ProvenanceError(
                f"{path} has {path.stat().st_size} bytes, was written with {expected['bytes']}"
            )
        if contents and file_hash(path) != expected["sha256"]:
            raise ProvenanceError(f"{path} was changed since it was written")
    return marker
