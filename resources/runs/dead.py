"""Runs whose process was killed: finding them, and giving back what they hold.

A run notes its process in a tag. A process that is killed can't say that its run ended, so the run
stays ``STARTED``, counts against the most runs at once, and keeps its places in the pools. Whoever
starts a run, waits for a pool or looks after the runs calls ``free_dead_runs``, which ends what is
certainly dead and nothing else: a run whose process can't be seen from here is left alone.
"""

import json
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES

from resources.processes import Process, is_near, lives, read_process, started_at, this_process

# Dagster's UI hides tags that begin like these, which say nothing to a person.
PROCESS_TAG = ".dagster/opencs_process"
LAUNCHER_TAG = ".dagster/opencs_launcher"
STARTED_BY_HAND_TAG = ".dagster/opencs_started_by_hand"
_CODE_SERVER_TAG = ".dagster/grpc_info"
# Seconds that a launched run has to tell its process id, where its code server is gone already.
_SILENT_S = 15.0
# Seconds that a process which can't be seen from here has to end after its run.
_AFTER_END_S = 60.0
_SHORT_ID = 8


@dataclass(frozen=True)
class DeadRun:
    """A run whose process is gone; the process is unknown where the run died before noting it."""

    run_id: str
    job: str
    process: Process | None

    @property
    def name(self) -> str:
        """The run as a person reads it, with what became of its process."""
        gone = f"its process {self.process.pid} is gone" if self.process else "its process is gone"
        return f"run {short(self.run_id)} of {self.job} died ({gone})"


def note_process(run_id: str, tag: str = PROCESS_TAG) -> dict[str, str]:
    """The tag by which a run says that this process executes it, or will start its process.

    It has the run's id, too, since a repeated run inherits the tags.
    """
    return {tag: json.dumps({"run": run_id, **this_process().as_dict()})}


def process_of(run: dg.DagsterRun) -> Process | None:
    """The process that a run noted; ``None`` where it has not."""
    return _noted(run, PROCESS_TAG)


def free_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose process is gone, and free what ended runs still hold.

    Returns:
        A sentence for each run that was ended or held something.
    """
    pools_by_run = held_by_run(instance)
    free = instance.event_log_storage.free_concurrency_slots_for_run
    lines = []
    for run, dead in dead_runs(instance):
        if run.status == dg.DagsterRunStatus.CANCELING:
            done = "it is canceled now"
            instance.report_run_canceled(run, message=dead.name)
        else:
            done = "failed it"
            instance.report_run_failed(run, dead.name)
        free(run.run_id)
        pools = pools_by_run.pop(run.run_id, None)
        lines.append(f"{dead.name}: {done}{f' and {_freed(pools)}' if pools else ''}")
    for run_id in ended_holders(instance, pools_by_run):
        free(run_id)
        lines.append(f"run {short(run_id)} has ended: {_freed(pools_by_run[run_id])}")
    return lines


def dead_runs(instance: dg.DagsterInstance) -> Iterator[tuple[dg.DagsterRun, DeadRun]]:
    """The unfinished runs whose process is certainly gone."""
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES)):
        if is_dead(instance, run):
            # The run is read once more, because it may have ended meanwhile.
            latest = instance.get_run_by_id(run.run_id)
            if latest is not None and latest.status in ACTIVE_RUN_STATUSES:
                yield latest, DeadRun(run.run_id, run.job_name, process_of(run))


def is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of an unfinished run is certainly gone."""
    process = process_of(run)
    if process is not None:
        return lives(process) is False
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        # Dagster's monitor asks the cluster about runs that have not begun.
        return False
    launcher = _noted(run, LAUNCHER_TAG)
    if launcher is not None and not is_near(launcher):
        return lives(launcher) is False
    reported = _reported_pid(instance, run)
    if reported is not None:
        return started_at(reported) is None or not _is_python(reported)
    if launcher is None:
        return False
    stats = instance.get_run_stats(run.run_id)
    launched = stats.launch_time or stats.enqueued_time or time.time()
    return time.time() - launched > _SILENT_S and _code_server_is_gone(run)


def held_by_run(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """The pools in which each run has a place or waits for one, by run id."""
    pools: dict[str, set[str]] = {}
    storage = instance.event_log_storage
    infos = storage.get_concurrency_infos(sorted(storage.get_concurrency_keys()))
    for name, info in infos.items():
        claimed = {slot.run_id for slot in info.claimed_slots}
        for run_id in claimed | {step.run_id for step in info.pending_steps}:
            pools.setdefault(run_id, set()).add(name)
    return pools


def ended_holders(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Iterator[str]:
    """The runs among these holders that have ended, or that Dagster no longer knows."""
    if not run_ids:
        return
    records = {
        record.dagster_run.run_id: record
        for record in instance.get_run_records(dg.RunsFilter(run_ids=sorted(run_ids)))
    }
    for run_id in run_ids:
        record = records.get(run_id)
        if record is None:
            yield run_id
        elif record.dagster_run.is_finished:
            process = process_of(record.dagster_run)
            alive = None if process is None else lives(process)
            late = time.time() - (record.end_time or 0.0) > _AFTER_END_S
            # A run that was canceled by force may have a process that is still ending its work.
            if alive is False or process == this_process() or (alive is None and late):
                yield run_id


def holders(instance: dg.DagsterInstance, pool: str) -> list[str]:
    """The runs that hold a pool's places, as a person reads them."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    names = []
    for run_id in sorted({place.run_id for place in info.claimed_slots}):
        run = instance.get_run_by_id(run_id)
        names.append(f"run {short(run_id)} ({_whereabouts(run)})" if run else f"run {run_id}")
    return names


def short(run_id: str) -> str:
    """The first characters of a run's id, by which the UI shows it."""
    return run_id[:_SHORT_ID]


def _whereabouts(run: dg.DagsterRun) -> str:
    process = process_of(run)
    if process is None:
        return run.job_name
    place = "" if is_near(process) else f" on {process.host}"
    return f"{run.job_name}, process {process.pid}{place}"


def _freed(pools: Collection[str]) -> str:
    plural = "s" if len(pools) > 1 else ""
    return f"freed what it held (pool{plural} {', '.join(sorted(pools))})"


def _noted(run: dg.DagsterRun, name: str) -> Process | None:
    """The process that a run's own tag names; ``None`` where the tag is inherited or absent."""
    values = _tag(run, name)
    return read_process(values) if values.pop("run", None) == run.run_id else None


def _tag(run: dg.DagsterRun, name: str) -> dict[str, Any]:
    with suppress(ValueError):
        values = json.loads(run.tags.get(name, "{}"))
        if isinstance(values, dict):
            return values
    return {}


def _reported_pid(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    """The last process id that Dagster itself reported for a run."""
    pid = None
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        metadata = event.engine_event_data.metadata if event is not None else {}
        if "pid" in metadata:
            pid = int(str(metadata["pid"].value))
    return pid


def _is_python(pid: int) -> bool:
    """Whether a process may be a run's, where only its id is known."""
    import psutil  # type: ignore[import-untyped]

    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return True
    return any("python" in word for word in command[:1])


def _code_server_is_gone(run: dg.DagsterRun) -> bool:
    """Whether nothing listens any more where the server is that was to start the run."""
    server = _tag(run, _CODE_SERVER_TAG)
    path, port = server.get("socket"), server.get("port")
    if not path and not port:
        return False
    family = socket.AF_UNIX if path else socket.AF_INET
    address = path or (server.get("host") or "127.0.0.1", int(str(port)))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False
