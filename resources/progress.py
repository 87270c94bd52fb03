"""Progress of long work: a bar where a person watches, lines where a log does."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

_LINE_SHARE = 0.1
_LOG_EVERY_S = 20.0
_LINE_EVERY_S = 60.0

Log = Callable[[str], None]


class Reporter:
    """Reports done / stored / failed, rate and time left of one piece of work.

    On a terminal, or with ``OPENCS_PROGRESS=1``, it shows a bar on stderr; elsewhere it prints a
    line at every tenth and after each minute. ``log`` (such as Dagster's ``context.log.info``) gets
    the same lines, at most one in 20 seconds but always the last. The rate leaves out stored items,
    which take no time. ``more`` may be set to a function that gives further parts of the line.
    ``total`` is 0 where the number of items is not known.
    """

    def __init__(self, label: str, total: int, log: Log | None = None, unit: str = "") -> None:
        self.label, self.unit, self.note = label, unit, ""
        self.total = total
        self.done = 0
        self.stored = 0
        self.failed = 0
        self.more: Callable[[], Sequence[str]] = list
        self._log = log
        self._started = self._logged_at = self._printed_at = time.monotonic()
        self._printed = self._logged = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Reporter":
        self._started = self._logged_at = self._printed_at = time.monotonic()
        if self.total and _watched():
            # Stderr may be a pipe to a process that passes the bar on to the terminal.
            console = Console(stderr=True, force_terminal=True)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(self.label, total=self.total, state="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._printed < self.done:
            self._print()
        if self._log is not None and self._logged < self.done:
            self._log(self.line())

    def advance(self, count: int = 1, note: str = "", *, stored: int = 0, failed: int = 0) -> None:
        """Count items as done, of which some were stored or have no usable result.

        A note, such as the loss, is shown until the next one.
        """
        self.done += count
        self.stored += stored
        self.failed += failed
        self.note = note or self.note
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, state=self._state())
        elif self.total and (
            self.done - self._printed >= self.total * _LINE_SHARE
            or now - self._printed_at >= _LINE_EVERY_S
        ):
            self._print()
        if self._log is not None and now - self._logged_at >= _LOG_EVERY_S:
            self._log(self.line())
            self._logged, self._logged_at = self.done, now

    def line(self) -> str:
        """The state as one line."""
        return f"{self.label}: {self._state()}"

    def _print(self) -> None:
        print(self.line(), file=sys.stderr, flush=True)
        self._printed, self._printed_at = self.done, time.monotonic()

    def _state(self) -> str:
        done = f"{self.done}/{self.total}" if self.total else str(self.done)
        parts = [f"{done} {self.unit}".rstrip(), *filter(None, [self.note])]
        if self.stored:
            parts.append(f"{self.stored} stored")
        if self.failed:
            parts.append(f"{self.failed} failed")
        elapsed = time.monotonic() - self._started
        worked = self.done - self.stored
        if worked > 0 and elapsed > 0:
            rate = worked / elapsed
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if not self.total:
                parts.append(f"in {_duration(elapsed)}")
            elif self.done < self.total:
                parts.append(f"{_duration((self.total - self.done) / rate)} left")
            else:
                parts.append(f"took {_duration(elapsed)}")
        return " · ".join([*parts, *self.more()])


def _watched() -> bool:
    """Whether a bar makes sense: a person looks at stderr, or asked for one."""
    wish = os.environ.get("OPENCS_PROGRESS")
    return wish != "0" and (wish == "1" or sys.stderr.isatty())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
