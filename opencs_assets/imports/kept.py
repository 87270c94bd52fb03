"""Copies of the files that were imported: ``<home>/verdicts/<sha256><suffix>``.

Beside each copy, ``<sha256>.import.json`` holds the file's name, the options of its import and the
time. Nothing is ever removed, so that the tables can be made anew from the copies at any time.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from opencs_assets.files import versions
from opencs_assets.files.contents import opened
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import check
from resources.files import SHARED, write_whole

FOLDER: Final = "verdicts"
BESIDE: Final = ".import.json"
SHORTEST_PREFIX: Final = 8

State = Literal["new", "unchanged", "other options"]


@dataclass(frozen=True)
class KeptFile:
    """One imported file: its copy's path, its own name, and the options that it was imported with.

    It was first imported at ``imported_at``, ISO 8601 in UTC. ``keep`` says its form, and with
    ``state`` what the call changed; elsewhere ``form`` is empty.
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

    The same content again changes nothing, unless it comes with other options. Options that mean
    nothing to the file's form are left out.

    Raises:
        VerdictFileError: The file is not there, not understood, an option is missing, or the folder
            can't be written.
    """
    data = _read(file)
    sha256 = hashlib.sha256(data).hexdigest()
    folder = home / FOLDER
    note_path = folder / f"{sha256}{BESIDE}"
    before = _noted(note_path)
    # The options of the last import hold until others are named.
    used = options if options.values() or before is None else before.options
    form = check(data, str(file), used)
    used = used.only(form.uses)
    if before is None:
        path = folder / f"{sha256}{versions.format_suffix(file)}"
        kept_file = KeptFile(sha256, path, file.name, used, versions.now(), form.name, "new")
    else:
        used = used if used.values() else before.options
        state: State = "unchanged" if before.options == used else "other options"
        kept_file = replace(before, options=used, form=form.name, state=state)
    with versions.writing(folder, VerdictFileError):
        # A copy that is gone or was changed is mended.
        if not kept_file.path.is_file() or kept_file.path.read_bytes() != data:
            write_whole(kept_file.path, data, SHARED)
        if kept_file.state != "unchanged":
            note = {
                "file": kept_file.path.name,
                "name": kept_file.name,
                "options": used.values(),
                "imported_at": kept_file.imported_at,
            }
            versions.write_note(note_path, note)
    return kept_file


def kept_files(home: Path) -> list[KeptFile]:
    """All imported files in the order in which they were first imported.

    Raises:
        VerdictFileError: The note beside a file can't be read.
    """
    noted = map(_noted, (home / FOLDER).glob(f"*{BESIDE}"))
    return sorted(filter(None, noted), key=lambda file: (file.imported_at, file.name, file.sha256))


def find_kept(home: Path, named: str) -> KeptFile:
    """The imported file that a person names by a path to a copy, its name, or its hash.

    The first 8 characters of the hash are enough.

    Raises:
        VerdictFileError: No file has that name, or several have; the message lists them.
    """
    files = kept_files(home)
    path = Path(named)
    if path.is_file():
        sha256 = hashlib.sha256(_read(path)).hexdigest()
        matches = [file for file in files if file.sha256 == sha256]
    else:
        matches = [file for file in files if file.name == named]
        if not matches and len(named) >= SHORTEST_PREFIX:
            matches = [file for file in files if file.sha256.startswith(named)]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(
        f"{file.name} ({file.sha256[:SHORTEST_PREFIX]})" for file in matches or files
    )
    if not matches:
        raise VerdictFileError(
            f"{named} was not imported; imported are: {listed or 'none'}. Give a file, its name or "
            f"the first {SHORTEST_PREFIX} characters of its hash"
        )
    raise VerdictFileError(f"{named} fits several imported files: {listed}; give the hash")


def files_under(path: Path) -> list[Path]:
    """The file of a path, or all files in and below the folder, without hidden ones.

    Raises:
        VerdictFileError: The path is not there, or the folder has no file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise VerdictFileError(f"{path} is neither a file nor a folder")
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise VerdictFileError(f"the folder {path} has no file")
    return files


def read_kept(file: KeptFile) -> bytes:
    """The bytes of an imported file.

    Raises:
        VerdictFileError: The copy is gone, or was changed.
    """
    data = _read(file.path)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise VerdictFileError(
            f"{file.path} was changed since it was imported; import {file.name} again"
        )
    return data


def _read(path: Path) -> bytes:
    with opened(path, VerdictFileError) as file:
        return file.read()


def _noted(path: Path) -> KeptFile | None:
    """The imported file that a note is about."""
    return versions.read_note(
        path,
        lambda note: KeptFile(
            path.name.removesuffix(BESIDE),
            path.parent / note["file"],
            note["name"],
            ImportOptions(**note["options"]),
            note["imported_at"],
        ),
        VerdictFileError,
    )
