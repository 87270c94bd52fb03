"""Starts training and generation as processes of their own, and brings back what they report.

One launcher a kind of machine, all with the same ``run``: this one starts a process here. The
process reports through Dagster Pipes and shows its progress on the terminal that Dagster has.
"""

import codecs
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import dagster as dg
import polars as pl
from dagster import PipesTempFileContextInjector, PipesTempFileMessageReader

STOP_WITHIN_S = 20.0
TAIL_CHARACTERS = 4000


class LocalLauncher(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Runs a job in a process on this machine.

    Not by ``PipesSubprocessClient``, which returns neither the messages nor the last words of a
    process that failed; by the session that it is made of.

    Attributes:
        home: The home that the jobs belong to.
    """

    home: str

    def run(
        self,
        context: dg.AssetExecutionContext,
        module: str,
        job: Mapping[str, Any],
        tables: Mapping[str, pl.DataFrame] | None = None,
    ) -> dict[str, Any]:
        """Run ``python -m <module> <job file>`` to its end and return its result.

        Args:
            context: The asset that asks.
            module: A module whose ``main`` is ``opencs_assets.external.run_job``.
            job: The job, as JSON values.
            tables: Tables that the job reads: each is written as Parquet, and its path stands in
                the job under its name.

        Raises:
            dagster.Failure: The process failed; the description is its last error. Retries are
                refused where the process said that they would not mend it.
        """
        with tempfile.TemporaryDirectory(prefix="opencs-job-") as folder:
            paths = {name: str(Path(folder) / f"{name}.parquet") for name in tables or {}}
            for name, table in (tables or {}).items():
                table.write_parquet(paths[name])
            file = Path(folder) / "job.json"
            file.write_text(json.dumps({**job, **paths}), encoding="utf-8")
            messages, status, tail = _run(context, [sys.executable, "-m", module, str(file)])
        results = [message for message in messages if message.get("kind") == "result"]
        if status == 0 and results:
            return {name: value for name, value in results[-1].items() if name != "kind"}
        raise _failure(module, messages, status, tail)


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
    process.send_signal(signal.SIGINT)
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


def _failure(module: str, messages: list[Mapping[str, Any]], status: int, tail: str) -> dg.Failure:
    errors = [message for message in messages if message.get("kind") == "error"]
    name = module.rsplit(".", 1)[-1]
    if errors:
        text, final = str(errors[-1]["message"]), bool(errors[-1]["final"])
    elif status < 0:
        text, final = f"killed by {signal.Signals(-status).name}", False
        if status == -signal.SIGKILL:
            text += ", as the system does when memory runs out; use a smaller batch or length"
    else:
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        text, final = lines[-1] if lines else "no result was reported", False
    return dg.Failure(
        description=f"{name}: {text}",
        metadata={"module": module, "exit_status": status},
        allow_retries=not final,
    )
