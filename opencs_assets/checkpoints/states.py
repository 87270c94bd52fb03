"""Training states, from which a stopped training goes on.

The trainer writes a state as a folder ``checkpoint-<step>``. It counts only once it has a
``complete.json``, which is written after everything else is on the disk. A folder without one was
left behind by a killed process.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.files import write_whole

COMPLETE = "complete.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class State:
    """A complete training state after so many steps, with the notes that ``seal`` took."""

    step: int
    folder: Path
    notes: Mapping[str, Any]


def step_of(name: str) -> int:
    """The optimizer steps done in the state whose folder has this name."""
    return int(name.removeprefix(PREFIX))


def seal(folder: Path, notes: Mapping[str, Any]) -> None:
    """Mark a state whose files are all written as complete, and note JSON values with it."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != COMPLETE:
            _sync(path)
            files[str(path.relative_to(folder))] = path.stat().st_size
    write_whole(folder / COMPLETE, json.dumps({"files": files, "kept": dict(notes)}).encode())
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
        return State(step_of(folder.name), folder, marker["kept"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def latest(folder: Path) -> State | None:
    """The last complete state in a folder of states."""
    return next(reversed(_complete(folder)), None)


def keep_last(folder: Path, most: int) -> None:
    """Remove all complete states in a folder of states but the last ``most``."""
    for state in _complete(folder)[:-most]:
        shutil.rmtree(state.folder, ignore_errors=True)


def _complete(folder: Path) -> list[State]:
    states = [state for path in folder.glob(f"{PREFIX}*") if (state := read(path))]
    return sorted(states, key=lambda state: state.step)


def remove_incomplete(folder: Path) -> None:
    """Remove the states that a killed process left half written, while nobody writes one."""
    for path in folder.glob(f"{PREFIX}*"):
        if read(path) is None:
            shutil.rmtree(path, ignore_errors=True)
