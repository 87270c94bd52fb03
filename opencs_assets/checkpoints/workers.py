"""The processes of one training, one a device; several nodes meet at the first one.

The process that got the job starts its node's workers, passes their reports and SIGTERM on, and
ends as the first of them that failed ended. The workers find each other as PyTorch does: by
``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.launcher.job import EXIT_JOB_ERROR, EXIT_STOPPED, Channel, JobError, StoppedError

WORKER = "opencs_assets.checkpoints.worker"
DEFAULT_PORT = 29500
AFTER_FAILURE_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True)
class World:
    """All processes of a training, which meet at a port of the first node (``address``).

    ``processes`` run on each of the nodes, of which this one has the 0-based rank ``node``.
    """

    processes: int
    nodes: int
    node: int
    address: str
    port: int

    @property
    def size(self) -> int:
        """Processes on all nodes."""
        return self.processes * self.nodes


def world(processes: int, nodes: int, environment: Mapping[str, str]) -> World:
    """The world that this process is part of.

    With several nodes the environment has ``OPENCS_NODE_RANK`` or ``JOB_COMPLETION_INDEX``,
    ``OPENCS_MASTER_ADDR`` and perhaps ``OPENCS_MASTER_PORT``.

    Raises:
        JobError: There are several nodes and the variables are missing.
    """
    if nodes == 1:
        return World(processes, 1, 0, "127.0.0.1", _free_port())
    rank = environment.get("OPENCS_NODE_RANK") or environment.get("JOB_COMPLETION_INDEX")
    address = environment.get("OPENCS_MASTER_ADDR")
    if rank is None or not rank.isdigit() or int(rank) >= nodes or not address:
        raise JobError(
            f"a training on {nodes} nodes needs OPENCS_MASTER_ADDR and a rank below {nodes} in "
            "OPENCS_NODE_RANK or JOB_COMPLETION_INDEX; start it by the launcher "
            "kubernetes_multinode"
        )
    port = int(environment.get("OPENCS_MASTER_PORT") or DEFAULT_PORT)
    return World(processes, nodes, int(rank), address, port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Reports(Channel):
    """A worker's channel: lines of JSON that the process above passes on.

    Only the first worker writes them, since the others would repeat what it says.
    """

    def say(self, text: str) -> None:
        """Log one line."""
        self._write({"say": text})

    def send(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Report a structured message."""
        self._write({"kind": kind, "payload": dict(payload)})

    def _write(self, message: Mapping[str, Any]) -> None:
        if os.environ["RANK"] == "0":
            print(json.dumps(message), flush=True)


def run(job_file: Path, here: World, channel: Channel) -> dict[str, Any]:
    """Train with one process a device, and pass the first one's reports to the channel.

    Returns:
        The first worker's result; empty on a node that does not run the first worker.

    Raises:
        JobError: A worker refused the job, and a repeat would not mend it.
        StoppedError: SIGTERM stopped the training, which kept its state.
        RuntimeError: A worker failed in another way.
    """
    workers = [_start(job_file, here, local) for local in range(here.processes)]
    reports = _ReportReader(workers[0], channel)
    stop_forwarded = threading.Event()
    previous = _forward_sigterm(workers, stop_forwarded)
    try:
        status = _wait(workers)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
        _end(workers, AFTER_FAILURE_S)
        reports.join()
    error = reports.error
    if status == -signal.SIGTERM and stop_forwarded.is_set():
        # The signal came before the workers handled it, so that there was nothing to keep.
        raise StoppedError("told to stop before the training began; what was kept before is there")
    if status == EXIT_STOPPED:
        raise StoppedError(error or "told to stop")
    if status == EXIT_JOB_ERROR:
        raise JobError(error or "a worker refused the job; its log says why")
    if status:
        ending = f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        raise RuntimeError(error or f"a worker ended with {ending}; its log says why")
    return reports.result


def _start(job_file: Path, here: World, local: int) -> "subprocess.Popen[str]":
    rank = here.node * here.processes + local
    own = {
        "RANK": rank,
        "LOCAL_RANK": local,
        "WORLD_SIZE": here.size,
        "LOCAL_WORLD_SIZE": here.processes,
        "MASTER_ADDR": here.address,
        "MASTER_PORT": here.port,
    }
    environment = {
        # A worker reports to the process that started it, and not to Dagster by Pipes.
        **{name: value for name, value in os.environ.items() if "DAGSTER_PIPES" not in name},
        **{name: str(value) for name, value in own.items()},
    }
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", WORKER, str(job_file)],
        env=environment,
        stdout=subprocess.PIPE if local == 0 else subprocess.DEVNULL,
        text=True,
    )


def _forward_sigterm(workers: "list[subprocess.Popen[str]]", forwarded: threading.Event) -> Any:
    if threading.current_thread() is not threading.main_thread():
        return None

    def forward(*_: Any) -> None:
        forwarded.set()
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)

    return signal.signal(signal.SIGTERM, forward)


def _wait(workers: "list[subprocess.Popen[str]]") -> int:
    """Wait until all have ended or one has failed, and return the status of that one."""
    while True:
        states = [worker.poll() for worker in workers]
        failed = [status for status in states if status not in (None, 0, EXIT_STOPPED)]
        if failed:
            return int(failed[0] or 0)
        if None not in states:
            return EXIT_STOPPED if EXIT_STOPPED in states else 0
        time.sleep(POLL_S)


def _end(workers: "list[subprocess.Popen[str]]", within_s: float) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    deadline = time.monotonic() + within_s
    for worker in workers:
        try:
            worker.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


class _ReportReader(threading.Thread):
    """Reads the first worker's reports as they come."""

    def __init__(self, worker: "subprocess.Popen[str]", channel: Channel) -> None:
        super().__init__(name="worker-reports", daemon=True)
        self.result: dict[str, Any] = {}
        self.error: str | None = None
        self._worker, self._channel = worker, channel
        self.start()

    def run(self) -> None:
        """Read until the worker closes its stdout."""
        if self._worker.stdout is None:
            return
        with self._worker.stdout as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    # A library wrote this line.
                    sys.stderr.write(line)
                    continue
                self._take(message)

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if "say" in message:
            self._channel.say(str(message["say"]))
        elif message.get("kind") == "result":
            self.result = dict(message["payload"])
        elif message.get("kind") == "error":
            self.error = str(message["payload"]["message"])
        elif "kind" in message:
            self._channel.send(str(message["kind"]), message["payload"])
