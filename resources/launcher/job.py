"""What a script needs that Dagster starts as a process of its own: job file and reports.

Training and generation run anywhere: under Dagster Pipes, on another machine, or by hand with
``python -m <module> <job.json>``. Nothing here imports dagster but ``dagster_pipes``, and nothing
heavy is imported before the job was read.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from resources.errors import MendableError
from resources.processes import end_with_parent

EXIT_JOB_ERROR = 2
EXIT_CRASH = 1
EXIT_INTERRUPTED = 130
# EX_TEMPFAIL of sysexits.h: the job was stopped and saved its state, and a repeat goes on from it.
EXIT_STOPPED = 75
# Variable that Kubernetes sets in the pods of an indexed Job.
NODE_RANK = "JOB_COMPLETION_INDEX"

Job = Mapping[str, Any]


class JobError(MendableError):
    """The job can't be done and a repeat would not mend it; the message is for a person."""


class StoppedError(BaseException):
    """The job was told to stop and kept its state; a repeat goes on from there.

    It is no ``Exception``: SIGTERM raises it in any code, whose handlers must not catch it.
    """


class Channel:
    """Reports of a running job: to Dagster where it was started by Pipes, else to the terminal."""

    def __init__(self, pipes: PipesContext | None = None) -> None:
        self._pipes = pipes

    def say(self, text: str) -> None:
        """Log one line."""
        if self._pipes:
            self._pipes.log.info(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def send(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Report a structured message: the job's ``result``, or its ``error``."""
        if self._pipes:
            self._pipes.report_custom_message({"kind": kind, **payload})
        elif kind == "result":
            print(json.dumps(payload), flush=True)


def run_job(work: Callable[[Job, Channel], Mapping[str, Any]], arguments: Sequence[str]) -> int:
    """Read the job file, do the work, report its result or one clear error.

    SIGTERM stops the work wherever it is, unless the work itself listens to it.

    Args:
        work: Does the job and returns its result, as JSON values.
        arguments: Command line after the program: only the path or URL of the job file.

    Returns:
        Exit status: 0, ``EXIT_JOB_ERROR`` where a repeat would fail too, ``EXIT_STOPPED`` where
        the job was told to stop, ``EXIT_CRASH`` otherwise.
    """
    try:
        # This comes first, since SIGTERM does not end a container's main process by itself.
        _listen()
        return _run(work, arguments)
    except StoppedError as stop:
        print(f"stopped: {stop}", file=sys.stderr, flush=True)
        return EXIT_STOPPED


def _run(work: Callable[[Job, Channel], Mapping[str, Any]], arguments: Sequence[str]) -> int:
    with _channel() as channel:
        try:
            channel.send("result", work(read_job(arguments), channel))
        except JobError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            channel.send("error", {"message": str(error), "final": True})
            return EXIT_JOB_ERROR
        except StoppedError as stop:
            print(f"stopped: {stop}", file=sys.stderr, flush=True)
            channel.send("error", {"message": str(stop), "final": False})
            return EXIT_STOPPED
        except KeyboardInterrupt:
            channel.send("error", {"message": "interrupted", "final": True})
            return EXIT_INTERRUPTED
        except Exception as error:
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            channel.send("error", {"message": text, "final": False})
            return EXIT_CRASH
    return 0


def read_job(arguments: Sequence[str]) -> Job:
    """The job that the file on the command line holds.

    Raises:
        JobError: It can't be read, or is no JSON object.
    """
    if len(arguments) != 1:
        raise JobError(f"expected one argument, the path of the job file, got {list(arguments)}")
    path = arguments[0]
    try:
        job = json.loads(_content(path).decode())
    except (OSError, ValueError) as error:
        raise JobError(f"job file {path} can't be read: {error}") from None
    if not isinstance(job, dict):
        raise JobError(f"job file {path} must hold one JSON object")
    return job


def read_table(place: str) -> pl.DataFrame:
    """The table in a Parquet file, which is at a path or an fsspec URL."""
    return pl.read_parquet(_content(place))


def _content(place: str) -> bytes:
    if "://" not in place:
        return Path(place).read_bytes()
    import fsspec

    with fsspec.open(place, "rb") as file:
        return bytes(file.read())


@contextmanager
def _channel() -> Iterator[Channel]:
    loader = PipesEnvVarParamsLoader()  # type: ignore[no-untyped-call]
    if not loader.is_dagster_pipes_process() or os.environ.get(NODE_RANK, "0") != "0":
        # Where a job runs on several nodes, the first one reports.
        yield Channel()
        return
    writer = None
    if "url" in loader.load_messages_params():
        from resources.launcher.mailbox import MailboxWriter

        writer = MailboxWriter()
    else:
        # Only a local job ends with its parent: one that somebody starts by hand may outlive the
        # shell, and one in a container the run that started it.
        end_with_parent()
    with open_dagster_pipes(message_writer=writer) as pipes:
        yield Channel(pipes)


def _listen() -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(*_: Any) -> None:
        # A second SIGTERM must not break off the saving that the first one began.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StoppedError("told to stop by SIGTERM")

    signal.signal(signal.SIGTERM, stop)


def prepare_models() -> None:
    """Keep model libraries off the network, on one device and quiet; call before importing them.

    Several visible GPUs would split each batch, which changes the number of steps; processes that
    share a training each take their own. OpenMP threads that wait spin by default, which beside
    another busy process made generation 3 times as slow.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "WORLD_SIZE" not in os.environ:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    from transformers.utils import logging

    logging.disable_progress_bar()
