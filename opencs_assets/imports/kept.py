"""The files that were imported, as they came: ``<home>/verdicts/<sha256><suffix>``.

Beside each stands ``<sha256>.import.json``: the name that the file had, the options of its import
and its time. Nothing is ever removed, so that the tables can be made anew from them at any time.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from opencs_assets.files import kept as keeping
from opencs_assets.files.contents import opened
from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import check

FOLDER: Final = "verdicts"
BESIDE: Final = ".import.json"
SHORTEST_PREFIX: Final = 8

State = Literal["new", "unchanged", "other options"]


@dataclass(frozen=True)
class KeptFile:
    """One imported file.

    Attributes:
        sha256: Hex SHA-256 of its bytes.
        path: Where it is kept.
        name: Name that it had.
        options: The options that it was imported with.
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

    The same content again changes nothing, unless it comes with other options. Options that mean
    nothing to the file's form are left out.

    Raises:
        VerdictFileError: The file is not there, not understood, an option is missing, or the folder
            can't be written.
    """
    data = _read(file)
    sha256 = hashlib.sha256(data).hexdigest()
    folder = home / FOLDER
    before = _noted(folder / f"{sha256}{BESIDE}")
    # The options of the first import hold until others are given.
    given = options if options.given() or before is None else before.options
    form = check(data, str(file), given)
    given = given.only(form.uses)
    if before is None:
        path = folder / f"{sha256}{keeping.format_suffix(file)}"
        kept = KeptFile(sha256, path, file.name, given, keeping.now(), form.name, "new")
    else:
        given = given if given.given() else before.options
        state: State = "unchanged" if before.options == given else "other options"
        kept = replace(before, options=given, form=form.name, state=state)
    with keeping.writing(folder, VerdictFileError):
        if not _is_whole(kept):
            keeping.write_whole(kept.path, data)
        if kept.state != "unchanged":
            note = {
                "file": kept.path.name,
                "name": kept.name,
                "options": given.given(),
                "imported_at": kept.imported_at,
            }
            keeping.write_note(folder / f"{sha256}{BESIDE}", note)
    return kept


def kept_files(home: Path) -> list[KeptFile]:
    """All imported files in the order in which they were first imported.

    Raises:
        VerdictFileError: The note beside a file can't be read.
    """
    noted = [_noted(path) for path in (home / FOLDER).glob(f"*{BESIDE}")]
    return sorted(
        (each for each in noted if each is not None),
        key=lambda each: (each.imported_at, each.name, each.sha256),
    )


def find_kept(home: Path, named: str) -> KeptFile:
    """The imported file that a person names: by a path to a copy, its name, or its hash.

    Of the hash, the first 8 or more characters are enough.

    Raises:
        VerdictFileError: There is none, or several; the message lists them.
    """
    files = kept_files(home)
    path = Path(named)
    if path.is_file():
        sha256 = hashlib.sha256(_read(path)).hexdigest()
        matches = [each for each in files if each.sha256 == sha256]
    else:
        matches = [each for each in files if each.name == named]
        if not matches and len(named) >= SHORTEST_PREFIX:
            matches = [each for each in files if each.sha256.startswith(named)]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(
        f"{each.name} ({each.sha256[:SHORTEST_PREFIX]})" for each in matches or files
    )
    if not matches:
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
    files = sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
    )
    if not files:
        raise VerdictFileError(f"the folder {path} has no file")
    return files


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
    with opened(path, VerdictFileError) as file:
        return file.read()


def _is_whole(kept: KeptFile) -> bool:
    try:
        read_kept(kept)
    except VerdictFileError:
        return False
    return True


def _noted(path: Path) -> KeptFile | None:
    """The imported file that a note speaks of."""
    return keeping.read_note(
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
