"""Processes: which one this is, and whether another one still lives.

A process id alone is not enough, since the system gives it to another process once its first owner
is gone. With the moment of the process's start, and the machine's boot that this moment is counted
from, it names one process for good.
"""

import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EXIT_ORPHANED = 131
_PARENT_POLL_S = 1.0
# The field of /proc/PID/stat, counted after the program's name, that holds the process's start in
# clock ticks since the boot.
_START_FIELD = 19


@dataclass(frozen=True)
class Process:
    """One process of one machine.

    The moment of its start can be compared only with other starts since the same boot. The id of
    the boot, and the namespace that the process id belongs to (a container has its own), are empty
    where the system does not say.
    """

    pid: int
    started: str
    host: str
    boot: str
    namespace: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def this_process() -> Process:
    """The process that calls this."""
    pid = os.getpid()
    return Process(pid, started_at(pid) or "", platform.node(), _boot(), _namespace())


def read_process(values: dict[str, Any]) -> Process | None:
    """The process that ``as_dict`` described; ``None`` where the values describe none."""
    try:
        return Process(**{**values, "pid": int(values["pid"])})
    except (KeyError, TypeError, ValueError):
        return None


def lives(process: Process) -> bool | None:
    """Whether a process still runs; ``None`` where another machine or container hides it."""
    if process.host == platform.node() and process.boot != _boot():
        # Nothing outlives its machine's boot.
        return False
    if not is_near(process):
        return None
    started = started_at(process.pid)
    if started is None and _is_hidden(process.pid):
        return None
    return started == process.started


def is_near(process: Process) -> bool:
    """Whether the process's id means something here: same machine, boot and container."""
    here = (platform.node(), _boot(), _namespace())
    return (process.host, process.boot, process.namespace) == here


def started_at(pid: int) -> str | None:
    """When the process with this id started; ``None`` where there is none, or only a zombie."""
    try:
        # The program's name stands in parentheses, and may hold spaces and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[_START_FIELD]
    except FileNotFoundError:
        pass
    except OSError:
        return None
    if Path("/proc/self/stat").exists():
        return None
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.NoSuchProcess:
        return None


def end_with_parent(parent: int | None = None) -> None:
    """End this process once its parent is gone, so that it does not work on for a killed one.

    The parent may have passed on its process id; otherwise it is today's parent.
    """
    first_parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == first_parent:
            time.sleep(_PARENT_POLL_S)
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def runs(pid: int) -> bool:
    """Whether this machine has a process of that id now; whichever process that is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_hidden(pid: int) -> bool:
    """Whether there is a process with this id that the system shows to its owner only."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
