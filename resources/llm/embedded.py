"""The embedded model's server, which a home's processes share and start on first use.

A process that needs the server holds a lease: a file named after its pid, touched while in use. The
server ends when no lease was fresh for the idle timeout. A process checks, starts or restarts the
server under a file lock, so that two processes never start two.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from filelock import FileLock

from resources.llm.errors import LLMError
from resources.processes import runs

SLOTS = 4
# 1,024 tokens a slot are no faster than 4,096, so one server serves all roles; the client holds a
# role to its own, shorter context.
CONTEXT_PER_SLOT = 4096

IDLE_VARIABLE = "OPENCS_EMBEDDED_IDLE_S"
_IDLE_S = 300.0
_LEASE_FRESH_S = 30.0
_HEARTBEAT_S = 5.0
_START_S = 120.0
_HUNG_S = 20.0
_MODULE = "resources.llm.embedded_server"


@dataclass(frozen=True)
class ServerInfo:
    """The entries of ``server.json``; ``started_at`` is a Unix time."""

    pid: int
    url: str
    model: str
    idle_s: float
    started_at: float


class EmbeddedServer:
    """The server of one home, as one of its users sees it; it serves a GGUF file.

    It ends after some seconds without a user: ``idle_s``, else those of the environment variable
    ``OPENCS_EMBEDDED_IDLE_S``, else 300.
    """

    def __init__(self, home: Path, model: Path, idle_s: float | None = None) -> None:
        self.folder = home / "llm" / "server"
        self._model = model
        self._idle_s = idle_s or float(os.environ.get(IDLE_VARIABLE) or _IDLE_S)

    @contextmanager
    def lease(self) -> Iterator["EmbeddedServer"]:
        """Keep the server, once started, alive while in the block."""
        _LEASES.take(self.folder)
        try:
            yield self
        finally:
            _LEASES.release(self.folder)

    def url(self) -> str:
        """Base URL of the living server (without ``/v1``); starts or restarts it where needed.

        Raises:
            LLMError: It does not start; the message holds the last line of its log.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                info = read_info(self.folder)
                if info is not None and info.model == str(self._model) and _answers(info):
                    return info.url
                if info is not None:
                    _end(info.pid)
                return self._start()
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def stop(self) -> None:
        """End the server if it runs, and wait until it is gone."""
        if not self.folder.is_dir():
            return
        with FileLock(self.folder / ".lock"):
            info = read_info(self.folder)
            if info is not None:
                _end(info.pid)
            (self.folder / "server.json").unlink(missing_ok=True)

    def _start(self) -> str:
        (self.folder / "server.json").unlink(missing_ok=True)
        log = self.folder / "server.log"
        command = [sys.executable, "-m", _MODULE, "--folder", str(self.folder)]
        command += ["--model", str(self._model), "--idle", str(self._idle_s)]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ),
                start_new_session=True,
            )
        _CHILDREN[process.pid] = process
        deadline = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline:
            info = read_info(self.folder)
            if info is not None and info.pid == process.pid and _healthy(info.url):
                return info.url
            time.sleep(0.05)
        _end(process.pid)
        raise LLMError(f"the embedded server did not start: {_last_line(log)} (log: {log})")


def _unwritable(folder: Path, error: OSError) -> LLMError:
    return LLMError(
        f"{folder} can't be written: {error.strerror or error}; make it writable or set "
        "OPENCS_HOME to a folder that is"
    )


def read_info(folder: Path) -> ServerInfo | None:
    """The entries of the folder's ``server.json``; ``None`` where it can't be read."""
    try:
        return ServerInfo(**json.loads((folder / "server.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_info(folder: Path, info: ServerInfo) -> None:
    """Write ``server.json`` atomically."""
    temporary = folder / f".server.json.{info.pid}"
    temporary.write_text(json.dumps(asdict(info)), "utf-8")
    temporary.rename(folder / "server.json")


def live_leases(folder: Path) -> int:
    """The number of leases that are fresh and whose process lives."""
    now = time.time()
    return sum(_is_live(lease, now) for lease in (folder / "leases").glob("[0-9]*"))


def _is_live(lease: Path, now: float) -> bool:
    try:
        return now - lease.stat().st_mtime < _LEASE_FRESH_S and _exists(int(lease.name))
    except (OSError, ValueError):
        return False


class _Leases:
    """This process's leases, counted by folder; one thread keeps them fresh."""

    def __init__(self) -> None:
        self._counts: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, folder: Path) -> None:
        with self._lock:
            self._counts[folder] = self._counts.get(folder, 0) + 1
            try:
                (folder / "leases").mkdir(parents=True, exist_ok=True)
                _lease(folder).touch()
            except OSError as error:
                raise _unwritable(folder, error) from None
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def release(self, folder: Path) -> None:
        with self._lock:
            self._counts[folder] -= 1
            if self._counts[folder] == 0:
                del self._counts[folder]
                _drop(folder)

    def release_all(self) -> None:
        with self._lock:
            for folder in self._counts:
                _drop(folder)
            self._counts.clear()

    def _beat(self) -> None:
        while True:
            time.sleep(_HEARTBEAT_S)
            with self._lock:
                for folder in self._counts:
                    with contextlib.suppress(OSError):
                        _lease(folder).touch()


def _lease(folder: Path) -> Path:
    return folder / "leases" / str(os.getpid())


def _drop(folder: Path) -> None:
    with contextlib.suppress(OSError):
        _lease(folder).unlink()


_LEASES = _Leases()
atexit.register(_LEASES.release_all)
# This process reaps the servers that it started, so that none stays as a zombie.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _environment(environment: "os._Environ[str]") -> dict[str, str]:
    """The server's environment, in which this package can be imported and OpenMP's threads sleep.

    By default these threads spin at barriers, which made replies 4 to 5 times slower beside other
    work of the machine (training, tests, another home's server).
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [environment.get("PYTHONPATH")])]
    return {
        "OMP_WAIT_POLICY": "passive",
        **environment,
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _answers(info: ServerInfo) -> bool:
    """Whether the server lives and answers within some time."""
    deadline = time.monotonic() + _HUNG_S
    while _exists(info.pid):
        if _healthy(info.url):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return False


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _exists(pid: int) -> bool:
    """Whether a process lives; a child of this process that has ended is reaped."""
    child = _CHILDREN.get(pid)
    return runs(pid) if child is None else child.poll() is None


def _end(pid: int) -> None:
    """End a server and wait until it is gone; another program's process of that pid stays."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if not _exists(pid) or not _is_server(pid):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + patience
        while _exists(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def _is_server(pid: int) -> bool:
    if pid in _CHILDREN:
        return True
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return _MODULE.encode() in command


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
