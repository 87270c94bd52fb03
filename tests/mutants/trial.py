"""Trying faults: a copy of the project, a fault written into it, and its tests in a forked child.

The parent imports the libraries that take long once and nothing of the project; a child needs only
what the copy holds. A fault stands on the copy's disk, so that processes that a test starts, and
dbt, meet it too.
"""

import contextlib
import gc
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants.fault import Fault
from tests.mutants.methods import ROOT

LIBRARIES = """
numpy polars scipy.stats scipy.optimize scipy.special scipy.sparse duckdb pyarrow.parquet pydantic
pydantic_settings sqlalchemy hypothesis fsspec httpx orjson openai jinja2 yaml sklearn.cluster
Stemmer filelock psutil rich typer dagster transformers
anyio.pytest_plugin anyio._backends._asyncio syrupy xdist.plugin pytest_timeout execnet
"""
# A child's exit status is that of pytest and this, which no test and no fault exits with.
OWN_STATUS = 100
PASSED, NO_RESULT = OWN_STATUS, {OWN_STATUS + status for status in (4, 5, 70, 71)}
OPTIONS = "-x -q -p no:cacheprovider --assert=plain --hypothesis-seed=0"
# Bytes that a child may hold; a fault may ask for more and more.
MEMORY = 6 << 30
# Stands for the status of a child that was ended at the time limit; pytest has none like it.
LATE = OWN_STATUS - 1
# Seconds that a run may take beyond three times that of the sound code.
GRACE = 15.0


class TrialError(Exception):
    """The tests can't be tried: they fail on the sound code, or there are none."""


@dataclass
class Copy:
    """A copy of the project's files in a folder of its own."""

    folder: Path
    written: int = 0

    @classmethod
    def of_project(cls, folder: Path) -> "Copy":
        """Copy what git tracks or would track."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        return cls(folder)

    @contextlib.contextmanager
    def changed(self, fault: Fault | None) -> Iterator[None]:
        """Write a fault, and put the sound code back."""
        if fault is None:
            yield
            return
        file = self.folder / fault.path
        sound = file.stat()
        file.write_text(fault.changed)
        self.written += 1
        # Compiled code is recognized by time and size, so that each change needs its own time.
        os.utime(file, (sound.st_atime, sound.st_mtime + 10 * self.written))
        try:
            yield
        finally:
            file.write_text(fault.code)
            os.utime(file, ns=(sound.st_atime_ns, sound.st_mtime_ns))


def import_libraries() -> None:
    """Import what takes long, before children are forked."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LIBRARIES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@dataclass
class Trial:
    """The tests of one module, running in a child on a copy, with a fault or without."""

    copy: Copy
    tests: tuple[str, ...]
    fault: Fault | None = None
    limit: float = 600.0

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.copy.changed(self.fault))
        self.log = self.copy.folder.parent / f"{self.copy.folder.name}.log"
        self.started = time.monotonic()
        self.child = os.fork()
        if not self.child:
            self._run()

    def result(self) -> tuple[int, float] | None:
        """Exit status of pytest and seconds, when it has ended; it is ended at the time limit."""
        seconds = time.monotonic() - self.started
        ended, status = os.waitpid(self.child, os.WNOHANG)
        if not ended and seconds < self.limit:
            return None
        self.end()
        return (os.waitstatus_to_exitcode(status) if ended else LATE), seconds

    def end(self) -> None:
        """End the child with all that it started, and put the sound code back."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.child, 0)
        self._stack.close()

    def _run(self) -> None:
        """Run pytest in this process, which never returns from here."""
        status = 70
        try:
            os.setsid()
            # What the parent imported is not looked through for what could be collected.
            gc.freeze()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            # Whoever started the parent may have had them ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with self.log.open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            folder = self.copy.folder
            enter(folder)
            shutil.rmtree(folder / ".hypothesis" / "examples", ignore_errors=True)
            base = folder.parent / f"{folder.name}-tmp"
            options = [*OPTIONS.split(), f"--basetemp={base}", f"--rootdir={folder}"]
            status = int(pytest.main([*options, *self.tests]))
            if imported_elsewhere(folder):
                status = 71
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(OWN_STATUS + status)


def enter(folder: Path) -> None:
    """Make this process one that was started in the copy."""
    given = os.environ
    given.setdefault("OPENCS_SHARED_DATA", str(ROOT.parent / "shared" / "data"))
    if (models := ROOT / ".opencs" / "models").is_dir():
        given.setdefault("OPENCS_MODELS_DIR", str(models))
    given["PYTHONPATH"] = str(folder)
    os.chdir(folder)
    elsewhere = ("", str(ROOT), str(folder))
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in elsewhere)]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def imported_elsewhere(folder: Path) -> list[str]:
    """Modules of the project that were not imported from the copy."""
    packages = ("opencs_assets", "resources", "tests", "definitions")
    return [
        f"{name} was imported from {file}"
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in packages
        and (file := getattr(module, "__file__", None))
        and not file.startswith(str(folder))
    ]


def clean_seconds(copy: Copy, tests: tuple[str, ...]) -> float:
    """Seconds that the tests take on the sound code.

    Raises:
        TrialError: They fail there, or there are none.
    """
    trial = Trial(copy, tests)
    try:
        while (ended := trial.result()) is None:
            time.sleep(0.05)
    finally:
        trial.end()
    status, seconds = ended
    if status != PASSED:
        last = "\n".join(trial.log.read_text(errors="replace").splitlines()[-25:])
        raise TrialError(
            f"{' '.join(tests)} exit with {status - OWN_STATUS} on the sound code:\n{last}"
        )
    return seconds


def survivors(
    copies: list[Copy], tests: tuple[str, ...], faults: list[Fault], limit: float
) -> tuple[list[Fault], int]:
    """The faults that the tests do not notice, and how many run into the time limit.

    As many are tried at once as there are copies.
    """
    waiting, idle, running = list(reversed(faults)), list(copies), list[Trial]()
    survived: list[Fault] = []
    late = 0
    try:
        while waiting or running:
            while waiting and idle:
                running.append(Trial(idle.pop(), tests, waiting.pop(), limit))
            for trial in list(running):
                if (ended := trial.result()) is None:
                    continue
                running.remove(trial)
                idle.append(trial.copy)
                late += ended[0] == LATE
                if ended[0] in NO_RESULT:
                    raise TrialError(f"pytest could not run: {trial.log.read_text()[-2000:]}")
                if ended[0] == PASSED and trial.fault is not None:
                    survived.append(trial.fault)
            time.sleep(0.05)
    finally:
        for trial in running:
            trial.end()
    return sorted(survived, key=faults.index), late
