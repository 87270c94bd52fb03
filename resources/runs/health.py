"""How Dagster's instance fares: damaged databases, dead runs, held pools, the queue, the daemon.

Nothing here changes anything; ``opencs doctor`` says what is to be done.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from resources.runs.dead import dead_runs, ended_holders, held_by_run, holders


@dataclass(frozen=True)
class Queue:
    """Number of runs that wait to be launched, and seconds that the oldest has waited (or 0)."""

    runs: int
    oldest_s: float


@dataclass(frozen=True)
class Growth:
    """Bytes of all files of a folder, and days since the oldest of them was written."""

    bytes: int
    days: float


def damaged_databases(folder: Path) -> dict[Path, str]:
    """Dagster's SQLite files that can't be read, and what SQLite says of each."""
    verdicts = {path: _verdict(path) for path in sorted(folder.rglob("*.db"))}
    return {path: verdict for path, verdict in verdicts.items() if verdict != "ok"}


def _verdict(path: Path) -> str:
    try:
        # It is opened read-only, so that a damaged file stays as it is for its rescue.
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            return str(connection.execute("pragma quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        locked = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
        return "ok" if locked else str(error)


def dead_run_names(instance: dg.DagsterInstance) -> list[str]:
    """The runs whose process is gone, as a person reads them."""
    return [dead.name for _, dead in dead_runs(instance)]


def held_pools(instance: dg.DagsterInstance) -> Mapping[str, list[str]]:
    """Runs that hold a place, by pool."""
    storage = instance.event_log_storage
    return {
        pool: names
        for pool in sorted(storage.get_concurrency_keys())
        if (names := holders(instance, pool))
    }


def stale_holders(instance: dg.DagsterInstance) -> list[str]:
    """Runs that have ended and still hold a place in a pool."""
    return list(ended_holders(instance, held_by_run(instance)))


def queue(instance: dg.DagsterInstance) -> Queue:
    """The runs that wait to be launched."""
    waiting = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    since = min((record.create_timestamp.timestamp() for record in waiting), default=None)
    return Queue(len(waiting), 0.0 if since is None else max(time.time() - since, 0.0))


def daemon_silent_s(instance: dg.DagsterInstance) -> float | None:
    """Seconds since the daemon's last heartbeat; ``None`` where there never was one."""
    beats = [heartbeat.timestamp for heartbeat in instance.get_daemon_heartbeats().values()]
    return max(time.time() - max(beats), 0.0) if beats else None


def growth(folder: Path) -> Growth:
    """Size of a folder, and in how many days it came to that."""
    total_size, oldest = 0, time.time()
    for size, written in _files(folder):
        total_size += size
        oldest = min(oldest, written)
    return Growth(total_size, (time.time() - oldest) / 86_400)


def _files(folder: Path) -> Iterator[tuple[int, float]]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                state = path.stat()
                yield state.st_size, state.st_mtime
        except OSError:
            # The file was removed while it was looked at.
            continue
