"""Training states: what a stopped training goes on from.

The trainer writes a state as a folder ``checkpoint-<step>``; it counts only once ``complete.json``
stands in it, written last and after all else is on the disk. A folder without it is what a killed
process left behind.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPLETE = "complete.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class State:
    """A complete training state.

    Attributes:
        step: Optimizer steps done.
        folder: Its folder.
        kept: What was noted with it (see ``seal``).
    """

    step: int
    folder: Path
    kept: Mapping[str, Any]


def seal(folder: Path, kept: Mapping[str, Any]) -> None:
    """Mark a state whose files are all written as complete.

    Args:
        folder: The state's folder.
        kept: What to note with it, as JSON values.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != COMPLETE:
            _sync(path)
            files[str(path.relative_to(folder))] = path.stat().st_size
    temporary = folder / f".{COMPLETE}"
    temporary.write_text(json.dumps({"files": files, "kept": dict(kept)}), encoding="utf-8")
    _sync(temporary)
    temporary.replace(folder / COMPLETE)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: Path) -> State | None:
    """The state in a folder, if it is complete."""
    try:
        marker = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        whole = all(
            (folder / name).stat().st_size == size for name, size in marker["files"].items()
        )
        return (
            State(int(folder.name.removeprefix(PREFIX)), folder, marker["kept"]) if whole else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def latest(folder: Path) -> State | None:
    """The last complete state in a folder of states."""
    found = [state for each in folder.glob(f"{PREFIX}*") if (state := read(each))]
    return max(found, key=lambda state: state.step, default=None)


def keep_last(folder: Path, most: int) -> None:
    """Remove all complete states but the last few.

    Args:
        folder: Folder of states.
        most: How many to keep.
    """
    found = [state for each in folder.glob(f"{PREFIX}*") if (state := read(each))]
    for state in sorted(found, key=lambda state: state.step)[:-most]:
        shutil.rmtree(state.folder, ignore_errors=True)


def remove_incomplete(folder: Path) -> None:
    """Remove what a killed process left; only for who knows that nobody is writing."""
    for each in folder.glob(f"{PREFIX}*"):
        if read(each) is None:
            shutil.rmtree(each, ignore_errors=True)
