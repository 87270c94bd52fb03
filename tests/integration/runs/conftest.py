"""A home's real instance, and runs in real processes that hold places in pools."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import dagster as dg
import pytest

from tests.forks import FORKS
from tests.integration.runs.holding import hold

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "deploy" / "laptop" / "dagster.yaml"
WAIT_S = 60.0


@dataclass
class Started:
    """A process that runs the asset.

    Attributes:
        process: The process.
        log: What it wrote, to stdout and stderr.
    """

    process: ForkServerProcess
    log: Path

    def wait_for(self, words: str) -> str:
        """Wait until the log has these words; returns the log."""
        until(lambda: words in self.log.read_text(), f"{words!r} in {self.log}")
        return self.log.read_text()

    def kill(self) -> None:
        """As the system does when memory runs out."""
        self.process.kill()
        self.process.join()


@dataclass
class Place:
    """An instance, and the processes that were started with it.

    Attributes:
        folder: The instance's folder.
        instance: The instance.
        go: The file that lets every run end.
        started: All processes so far.
    """

    folder: Path
    instance: dg.DagsterInstance
    go: Path
    started: list[Started] = field(default_factory=list)

    def start(self) -> Started:
        """Start a run in a process of its own."""
        log = self.folder / f"process-{len(self.started)}.log"
        log.touch()
        process = FORKS.Process(target=hold, args=(self.folder, self.go, log))
        process.start()
        self.started.append(Started(process, log))
        return self.started[-1]

    def holding(self) -> Started:
        """Start a run, and wait until it holds the pool."""
        started = self.start()
        started.wait_for("at work")
        return started

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        """The runs, the newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(statuses=list(statuses) or None)))

    def holders(self) -> set[str]:
        """Ids of the runs that have a place in the pool."""
        info = self.instance.event_log_storage.get_concurrency_info("llm_api")
        return {slot.run_id for slot in info.claimed_slots}


def until(holds: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def make_place(folder: Path) -> Iterator[Place]:
    """An instance as a home has it; its processes end with the test."""
    folder.mkdir(parents=True)
    shutil.copyfile(CONFIG, folder / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        place = Place(folder, instance, folder / "go")
        try:
            yield place
        finally:
            for started in place.started:
                started.kill()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield from make_place(tmp_path / "dagster")


@pytest.fixture
def other_place(tmp_path: Path) -> Iterator[Place]:
    yield from make_place(tmp_path / "other" / "dagster")
