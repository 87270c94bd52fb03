"""Running one family of assets in this process, as the command line does."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run
from dagster._core.utils import make_new_run_id

from opencs_assets.wiring.jobs import FORCE_TAG
from opencs_assets.wiring.partitions import DATASET
from resources.runs.dead import STARTED_BY_HAND_TAG, note_process


@dataclass(frozen=True)
class Step:
    """A run of some of a family's assets; an unpartitioned family has no partition key."""

    family: str
    job: str
    partition: str | None
    assets: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """A run that has ended.

    Attributes:
        step: The step that was run.
        run_id: The run's id in the instance.
        error: The messages of all failures; ``None`` if the run succeeded.
        seconds: Seconds of each asset's computation, by step name, and of all checks together.
    """

    step: Step
    run_id: str
    error: str | None
    seconds: dict[str, float]


def register_dataset(instance: dg.DagsterInstance, name: str) -> None:
    """Add the dataset to the dynamic partitions."""
    instance.add_dynamic_partitions(str(DATASET.name), [name])


def known_datasets(instance: dg.DagsterInstance) -> list[str]:
    """The datasets that are dynamic partitions."""
    return list(instance.get_dynamic_partitions(str(DATASET.name)))


def run(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    step: Step,
    *,
    limit: int | None = None,
    force: bool = False,
) -> Ran:
    """Run one step in this process and record it in the instance.

    ``raw_dataset`` reads at most ``limit`` rows of its file. With ``force``, assets are made again
    even where they could be reused.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM ended the run.
    """
    checks = sorted(check.node_def.name for check in defs.asset_checks or [])
    config: dict[str, Any] = {"loggers": {"terminal": {"config": {"quiet": checks}}}}
    if limit is not None and "raw_dataset" in step.assets:
        config["ops"] = {"raw_dataset": {"config": {"limit": limit}}}
    job = defs.resolve_job_def(step.job)
    keys = {dg.AssetKey.from_user_string(name) for name in step.assets}
    tags = {FORCE_TAG: "true"} if force else {}
    if step.partition is not None:
        tags |= job.get_tags_for_partition_key(step.partition, selected_asset_keys=keys)
    run_id = make_new_run_id()
    created = instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config=config,
        # The process is noted from the start, so that a run that is killed before its first step
        # is recognized as dead.
        tags={**tags, **note_process(run_id), STARTED_BY_HAND_TAG: "true"},
        asset_selection=frozenset(keys),
    )
    result = execute_run(InMemoryJob(job), created, instance, raise_on_error=False)
    if _was_interrupted(result):
        raise KeyboardInterrupt
    seconds: dict[str, float] = {}
    for event in result.all_events:
        if event.event_type_value == "STEP_SUCCESS":
            stage = "checks" if event.step_key in checks else event.step_key or ""
            spent = event.step_success_data.duration_ms / 1000
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return Ran(step, result.run_id, None if result.success else _error(result), seconds)


def _was_interrupted(result: dg.JobExecutionResult) -> bool:
    failures = (
        event.job_failure_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.RUN_FAILURE
    )
    return any(data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION for data in failures)


def _error(result: dg.JobExecutionResult) -> str:
    messages = []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                messages.append(f"{event.step_key}: {data.user_failure_data.description}")
            elif data.error:
                deepest = data.error
                while deepest.cause:
                    deepest = deepest.cause
                messages.append(f"{event.step_key}: {deepest.message.strip()}")
    if not messages:
        messages = [
            event.message or event.event_type_value
            for event in result.all_events
            if event.event_type_value == "PIPELINE_FAILURE"
        ]
    return "\n".join(messages)
