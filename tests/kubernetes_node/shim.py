"""Runs one container's command, and is alone when it ends: nothing that it started lives on.

The server starts this as a process of its own and holds its stdin. The first line there is the
container as JSON (``argv``, ``env``, ``cwd``), later lines are signals' numbers for its main
process, and the end of the input (the server is gone) kills all. As for the first process of a
container, a signal that it has no handler for does nothing, except SIGKILL. The exit status is the
command's, 128 and the signal's number where a signal ended it, or 128 where it can't be started.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans of the command become children of this process
CANNOT_START = 128


def main() -> int:
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    told = lines()
    container = json.loads(next(told))
    try:
        process = subprocess.Popen(
            container["argv"],
            env=container["env"],
            cwd=container["cwd"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        print(f"exec {container['argv'][0]}: {error.strerror}", flush=True)
        return CANNOT_START
    threading.Thread(target=obey, args=(process.pid, told), daemon=True).start()
    status = reap(process.pid)
    while descendants := children():
        for pid in descendants:
            kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def lines() -> Iterator[bytes]:
    """What the server says, unbuffered: no lock of a buffer may be held when this process ends."""
    rest = b""
    while data := os.read(0, 65536):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def obey(pid: int, told: Iterator[bytes]) -> None:
    for line in told:
        number = int(line)
        if number == signal.SIGKILL or handles(pid, number):
            kill(pid, number)
    kill(pid, signal.SIGKILL)


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def reap(until: int) -> int:
    """Collect ended children until a certain one has ended; returns its wait status."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == until:
            return status


def children() -> list[int]:
    """Living children of this process; what they leave behind becomes its child in turn."""
    own = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rsplit(") ", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z":
                own.append(int(folder.name))
    return own


if __name__ == "__main__":
    sys.exit(main())
