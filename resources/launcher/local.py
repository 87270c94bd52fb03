"""Work in a process on this machine.

Not by ``PipesSubprocessClient``, which returns neither the messages nor the last words of a process
that failed; by the session that it is made of. The process shows its progress on the terminal that
Dagster has.
"""

import codecs
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import dagster as dg
from dagster import PipesTempFileContextInjector, PipesTempFileMessageReader

from resources.launcher.work import Messages, Work, error_of, failure, last_line, result_of

# What a training gets for keeping its state.
STOP_WITHIN_S = 60.0
TAIL_CHARACTERS = 4000


def run(context: dg.AssetExecutionContext, work: Work, processes: int | None) -> dict[str, Any]:
    """Run ``python -m <module> <job file>`` to its end and return its result.

    Args:
        context: The asset that asks.
        work: What to run.
        processes: Processes of a work that can use several devices; unset: one a visible GPU.

    Raises:
        dagster.Failure: The process failed; the description is its last error. Retries are
            refused where the process said that they would not mend it.
    """
    with tempfile.TemporaryDirectory(prefix="opencs-job-") as folder:
        paths = {name: str(Path(folder) / f"{name}.parquet") for name in work.tables}
        for name, table in work.tables.items():
            table.write_parquet(paths[name])
        devices = {"processes": processes or visible_gpus() or 1} if work.parallel else {}
        file = Path(folder) / "job.json"
        file.write_text(json.dumps({**work.job, **devices, **paths}), encoding="utf-8")
        messages, status, tail = _run(context, [sys.executable, "-m", work.module, str(file)])
    result = result_of(messages)
    if status == 0 and result is not None:
        return result
    text, final = _reason(messages, status, tail)
    raise failure(work, text, final=final, exit_status=status)


def visible_gpus() -> int:
    """GPUs that a process started here would see; 0 without any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([each for each in visible.split(",") if each.strip() not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _run(
    context: dg.AssetExecutionContext, command: list[str]
) -> tuple[list[Mapping[str, Any]], int, str]:
    """Run a command in a Pipes session; returns its messages, exit status and last words."""
    with dg.open_pipes_session(
        context=context,
        context_injector=PipesTempFileContextInjector(),
        message_reader=PipesTempFileMessageReader(),
    ) as session:
        process = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, **_progress(), **session.get_bootstrap_env_vars()},
            stderr=subprocess.PIPE,
            # Ctrl-C is for this process, which then stops that one as a run in the UI is stopped.
            process_group=0,
        )
        echo = _Echo(process.stderr)
        try:
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
        finally:
            echo.join()
    return list(session.get_custom_messages()), status, echo.tail


def _progress() -> dict[str, str]:
    """Tell the process that a person watches: its stderr is a pipe, so it can't see that itself."""
    watched = sys.stderr.isatty() and "OPENCS_PROGRESS" not in os.environ
    return {"OPENCS_PROGRESS": "1"} if watched else {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Not SIGINT: at SIGTERM a training keeps its state.
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Echo(threading.Thread):
    """Passes a process's stderr on as it comes, and keeps its end."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(name="stderr-echo", daemon=True)
        self.tail = ""
        self._stream = stream
        self.start()

    def run(self) -> None:
        """Read until the process closes its stderr."""
        if self._stream is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with self._stream as stream:
            while chunk := os.read(stream.fileno(), 4096):
                text = decoder.decode(chunk)
                self.tail = (self.tail + text)[-TAIL_CHARACTERS:]
                sys.stderr.write(text)
                sys.stderr.flush()


def _reason(messages: Messages, status: int, tail: str) -> tuple[str, bool]:
    """Why a process failed, and whether a repeat could not mend it."""
    told = error_of(messages)
    if told:
        return told
    if status < 0:
        text = f"killed by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            text += ", as the system does when memory runs out; use a smaller batch or length"
        return text, False
    return last_line(tail) or "no result was reported", False
