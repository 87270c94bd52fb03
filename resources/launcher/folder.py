"""A job's folder: its job file, its tables, its mailbox, and a mark of each run that waits."""

import json
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import fsspec

from resources.launcher.work import Work
from resources.remote import put

READ = "read"


class JobFolder:
    """A folder at a path or an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)

    @property
    def messages(self) -> str:
        """Path or URL of the mailbox."""
        return f"{self.url}/messages"

    def write(self, work: Work, more: Mapping[str, Any]) -> None:
        """Write the job file and the tables of a work; ``more`` is added to the job."""
        for name, table in work.tables.items():
            content = BytesIO()
            table.write_parquet(content)
            put(self._fs, f"{self._root}/{name}.parquet", content.getvalue())
        paths = {name: f"{self.url}/{name}.parquet" for name in work.tables}
        job: dict[str, Any] = {**work.job, **more, **paths}
        put(self._fs, f"{self._root}/job.json", json.dumps(job).encode())

    def exists(self) -> bool:
        """Whether the job file is there."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._root}/job.json"))

    def add_run(self, run_id: str) -> None:
        """Write down that a run waits for the job."""
        put(self._fs, f"{self._root}/runs/{run_id}", b"")

    def runs(self) -> list[str]:
        """Runs that have waited for the job."""
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return [path.rsplit("/", 1)[-1] for path in self._fs.find(f"{self._root}/runs")]
        return []

    def remove_run(self, run_id: str) -> None:
        """Write down that a run does not wait any more."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/runs/{run_id}")

    def mark_read(self) -> None:
        """Write down that the result was taken."""
        put(self._fs, f"{self._root}/{READ}", b"")

    def was_read(self) -> bool:
        """Whether the result was taken by some run."""
        return bool(self._fs.exists(f"{self._root}/{READ}"))

    def others(self) -> list["JobFolder"]:
        """Folders of earlier jobs of the same name."""
        parent, _, name = self._root.rpartition("/")
        with suppress(FileNotFoundError):
            names = [path.rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(parent, False)]
            parent_url = self.url.rpartition("/")[0]
            return [JobFolder(f"{parent_url}/{other}") for other in names if other != name]
        return []

    def remove(self) -> None:
        """Remove the folder as far as it can be: a process that ends may still write into it."""
        with suppress(OSError):
            self._fs.rm(self._root, recursive=True)
