"""Processes of a home: starting one as a person does, finding what it started, ending it for good.

A process belongs to a home if its environment says so, which every child inherits, whatever its
session or parent. So nothing else is ever touched, and nothing of a round outlives it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.e2e.conftest import environment

T = TypeVar("T")
LOG_TAIL = 4000
POLL_S = 0.02


def wait_until(look: Callable[[], T], seconds: float, what: str | Callable[[], str]) -> T:
    """Look until there is something, and return it; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}"
            )
        time.sleep(POLL_S)


@dataclass(frozen=True)
class HomeProcess:
    """A process of a home, as it was seen."""

    pid: int
    parent: int
    command: str


def processes_of(home: Path) -> list[HomeProcess]:
    """The living processes of a home."""
    mark = f"OPENCS_HOME={home}".encode()
    living = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            # The name, which stands in parentheses, may hold anything.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            living.append(HomeProcess(int(folder.name), int(parent), command))
    return living


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def kill(*pids: int) -> float:
    """Send SIGKILL to all at once, and wait until they are gone.

    Returns:
        The moment of the first, in seconds of the monotonic clock.
    """
    moment = time.monotonic()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not any(map(is_alive, pids)), 10, f"the end of the killed {pids}")
    return moment


def end_all(home: Path) -> None:
    """End every process of a home for good."""
    deadline = time.monotonic() + 20
    # One that is killed may just have started another.
    while living := processes_of(home):
        for process in living:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert time.monotonic() < deadline, f"these don't end: {living}"
        time.sleep(0.05)


@contextmanager
def ended_after(home: Path) -> Iterator[Path]:
    """End every process of a home with the block, however it ends."""
    try:
        yield home
    finally:
        end_all(home)


def _default_signals() -> None:
    """Let Ctrl-C and SIGTERM end a process, even if who runs the tests ignores them."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Command:
    """A command line ``opencs …`` that runs.

    Args:
        home: Its home.
        words: What stands after ``opencs``.
        log: File that gets what it prints.
    """

    def __init__(self, home: Path, words: tuple[str, ...], log: Path) -> None:
        self.home = home
        self.words = words
        self.log = log
        self.began = time.monotonic()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "opencs_assets.cli", *words],
                env={**environment(home), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_default_signals,
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def printed(self) -> str:
        """All that it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line, without the space around."""
        return [line.strip() for line in self.printed.splitlines()]

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def report(self) -> str:
        """What a failure needs to show."""
        living = "\n".join(f"  {each.pid} {each.command[:150]}" for each in processes_of(self.home))
        return (
            f"opencs {' '.join(self.words)}\n(exit code {self.process.poll()}, after "
            f"{time.monotonic() - self.began:.0f} s) printed:\n{self.printed[-LOG_TAIL:]}\n"
            f"living processes of the home:\n{living or '  none'}"
        )

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit code; fails if it goes on."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {seconds:.0f} s: {self.report()}") from None

    def until(self, look: Callable[[], T], seconds: float, what: str) -> T:
        """Wait for something; fails if it does not come in time."""
        return wait_until(look, seconds, lambda: f"{what}\n{self.report()}")

    def stage(self) -> str | None:
        """The stage that it says it is at: begun and neither ended nor failed."""
        at = None
        for line in self.lines:
            if line.startswith("▸ "):
                at = line.removeprefix("▸ ")
            elif line.startswith(("✓ ", "✗ ")):
                at = None
        return at
