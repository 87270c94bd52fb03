"""New files of a landing folder: each version is taken once, and only after it is whole."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TICK_BUDGET_S = 20.0
IGNORED_ENDINGS = (".part", ".tmp", ".crdownload", ".swp", "~")


class Landing:
    """One look at a landing folder.

    Args:
        folder: The folder; files in its subfolders are not looked at.
        cursor: The ``cursor`` of the look before. Files that it saw are not taken again unless
            their size or time of change differs.
        settle_s: Seconds that a file must be unchanged before it is taken.

    Attributes:
        notes: Why files were not taken, for a person; the caller adds reasons of its own.
    """

    def __init__(self, folder: Path, cursor: str | None, settle_s: float) -> None:
        self._folder = folder
        self._seen: dict[str, Any] = json.loads(cursor or "{}")
        self._present: dict[str, Any] = {}
        self._settle_s = settle_s
        self.notes: list[str] = []

    def new_files(self) -> Iterator[Path]:
        """Yield new and changed files until the tick's time is up; these then count as seen."""
        deadline = time.monotonic() + TICK_BUDGET_S
        for file in self._files():
            state = file.stat()
            mark = [state.st_mtime_ns, state.st_size]
            if self._seen.get(file.name) == mark:
                self._present[file.name] = mark
                continue
            if time.time() - state.st_mtime < self._settle_s:
                self.notes.append(f"{file.name}: still being written")
                continue
            if time.monotonic() > deadline:
                self.notes.append(f"{file.name}: left for the next tick")
                continue
            self._present[file.name] = mark
            yield file

    @property
    def cursor(self) -> str:
        """The files that are in the folder and were seen, for the next look."""
        return json.dumps(self._present, sort_keys=True)

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(
            file
            for file in self._folder.iterdir()
            if file.is_file()
            and not file.name.startswith(".")
            and not file.name.endswith(IGNORED_ENDINGS)
        )
