"""Folders in object storage: copied whole, with the file that completes them last.

An object appears when all of its bytes are there, but a folder of objects does not; so a folder is
complete once its marker is, and whoever reads it looks for that first.
"""

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from resources.files import write_whole
from resources.provenance import (
    MARKER,
    SHORT,
    Marker,
    ProvenanceError,
    check_fields,
    file_hash,
    marker_of,
    read_marker,
    verify,
)


def is_url(place: str) -> bool:
    """Whether a place is an fsspec URL rather than a path of this machine."""
    return "://" in place


def put(filesystem: Any, path: str, content: bytes) -> None:
    """Write a file that appears whole into an fsspec file system, and make its folder."""
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    if isinstance(filesystem, LocalFileSystem):
        write_whole(Path(path), content)
    else:
        # An object store shows an object only when its upload is complete.
        filesystem.pipe_file(path, content)


class RemoteFolder:
    """A folder of objects at an fsspec URL, whose driver finds credentials in the environment."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.url)

    def push(self, folder: Path, last: str) -> None:
        """Copy a local folder up, replacing what is there; the file ``last`` completes it."""
        self._fs.invalidate_cache()
        if self._fs.exists(f"{self._root}/{last}"):
            self._fs.rm_file(f"{self._root}/{last}")
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        for name in sorted(names, key=lambda name: (name == last, name)):
            target = f"{self._root}/{name}"
            self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            self._fs.put_file(str(folder / name), target)

    def pull(self, folder: Path, leave_out: Sequence[str] = ()) -> None:
        """Copy everything into a local folder, but for names of patterns like ``*.safetensors``."""
        self._fs.invalidate_cache()
        for path in self._fs.find(self._root):
            name = path.removeprefix(self._root).lstrip("/")
            if any(fnmatch(name, pattern) for pattern in leave_out):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(path, str(target))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; nothing where it is not there or not whole.

        Raises:
            OSError: The storage can't be read, which must not be taken for "not there".
        """
        try:
            content = json.loads(self.read_text(name) or "null")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def read_text(self, name: str) -> str | None:
        """A text file of the folder; nothing where it is not there.

        Raises:
            OSError: The storage can't be read.
        """
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}")).decode()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        put(self._fs, f"{self._root}/{name}", text.encode())

    def sizes(self) -> dict[str, int]:
        """Size in bytes of each file, by name within the folder."""
        self._fs.invalidate_cache()
        entries = self._fs.find(self._root, detail=True)
        return {
            path.removeprefix(self._root).lstrip("/"): int(entry["size"])
            for path, entry in entries.items()
        }

    def folders(self) -> list["RemoteFolder"]:
        """Folders directly in this one."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory"]
        return [RemoteFolder(f"{self.url}/{name.rsplit('/', 1)[-1]}") for name in names]

    @property
    def name(self) -> str:
        """Last part of the URL."""
        return self.url.rsplit("/", 1)[-1]

    def remove(self) -> None:
        """Remove the folder and all in it; nothing where it is not there."""
        self._fs.invalidate_cache()
        if self._fs.exists(self._root):
            self._fs.rm(self._root, recursive=True)


def read_remote_marker(url: str) -> Marker:
    """The marker of a folder in object storage.

    Raises:
        ProvenanceError: The folder has no marker, or it can't be read.
    """
    content = RemoteFolder(url).read_json(MARKER)
    if content is None:
        raise ProvenanceError(f"{url} is not complete: it has no readable {MARKER}")
    return marker_of(content, f"{url}/{MARKER}")


def verify_remote(url: str, provenance: str) -> Marker:
    """Verify a folder in object storage as ``provenance.verify`` does a local one, by sizes alone.

    Raises:
        ProvenanceError: It was made from something else, or an object is missing or has another
            size.
    """
    marker = read_remote_marker(url)
    check_fields(marker, provenance, url)
    sizes = RemoteFolder(url).sizes()
    for name, expected in marker.files.items():
        if sizes.get(name) != expected["bytes"]:
            size = "is missing" if name not in sizes else f"has {sizes[name]} bytes"
            raise ProvenanceError(f"{url}/{name} {size}, was written with {expected['bytes']}")
    return marker


def marker_at(place: str) -> Marker:
    """The marker of a folder here or in object storage.

    Raises:
        ProvenanceError: There is none, or it can't be read.
    """
    return read_remote_marker(place) if is_url(place) else read_marker(Path(place))


def verify_at(place: str, provenance: str) -> Marker:
    """The marker of a folder (a path or an fsspec URL) whose files are those that were written.

    Of files in object storage the sizes are compared, of files here the contents too.

    Raises:
        ProvenanceError: It was made from something else, or a file is missing or changed.
    """
    return verify_remote(place, provenance) if is_url(place) else verify(Path(place), provenance)


def local_copy(place: str, provenance: str, scratch: Path, leave_out: Sequence[str] = ()) -> Path:
    """A folder on this machine with the files of a place, which is a path or an fsspec URL.

    A path is the folder itself. What a URL has is copied into ``scratch``, unless a whole copy is
    there already, but for the names of patterns to leave out, such as ``*.safetensors``.

    Raises:
        ProvenanceError: The place is not whole, is another output, or its copy has other contents.
    """
    if not is_url(place):
        return Path(place)
    marker = verify_remote(place, provenance)
    copy = scratch / provenance[:SHORT]
    copied_files = {
        name: expected
        for name, expected in marker.files.items()
        if not any(fnmatch(name, pattern) for pattern in leave_out)
    }
    whole = all(
        (copy / name).is_file() and (copy / name).stat().st_size == expected["bytes"]
        for name, expected in copied_files.items()
    )
    if not whole:
        RemoteFolder(place).pull(copy, leave_out)
    for name, expected in copied_files.items():
        # The storage tells only sizes of files; a copy's content can be compared.
        if file_hash(copy / name) != expected["sha256"]:
            (copy / name).unlink()
            raise ProvenanceError(f"{place}/{name} was changed since it was written")
    return copy
