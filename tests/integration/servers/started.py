"""Processes that run while a block lasts, and are ended for good with it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
GRACE_S = 5.0


def end(process: "subprocess.Popen[Any]", grace_s: float = GRACE_S) -> None:
    """End a process by SIGTERM, and after a grace, or where it ignores that, by SIGKILL."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


@contextmanager
def running_process(
    command: Sequence[str | Path], grace_s: float = GRACE_S, **popen: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Run a process while the block lasts."""
    process = subprocess.Popen(command, text=True, **popen)
    try:
        yield process
    finally:
        end(process, grace_s)


def first_line(process: "subprocess.Popen[str]") -> str:
    """Wait until a process is ready, which it says by the first line that it writes."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"ended with {process.wait()} before it was ready: {process.args}"
    return line


@contextmanager
def started(script: str, *options: str) -> Iterator[str]:
    """Run a server of this folder, such as ``answer_server.py``; yields its base URL."""
    command = [sys.executable, str(FOLDER / script), *options]
    with running_process(command, stdout=subprocess.PIPE) as process:
        yield first_line(process)
