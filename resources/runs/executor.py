"""The executor of all runs: one process a run, which waits for its pools in a way that can be seen.

Dagster's own in-process executor waits for a place in a pool without a word, at full speed of one
core, deaf to SIGTERM, and for ever where the run that holds the place was killed. This one is the
same but for the waiting: it says for which pool and which run it waits, frees what dead runs hold,
and ends at once when it is told to.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.events import EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.executor.in_process import InProcessExecutor
from dagster._utils.interrupts import check_captured_interrupt

from resources.runs.dead import free_dead_runs, holders, note_process

_LOOK_EVERY_S = 2.0
_SLEEP_S = 0.2


class OneProcessExecutor(InProcessExecutor):
    """Runs all steps of a run in its process, one after another."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Run the plan; notes the process first, and frees what dead runs hold."""
        instance, run_id = plan_context.instance, plan_context.run_id
        instance.add_run_tags(run_id, note_process(run_id))
        for line in free_dead_runs(instance):
            plan_context.log.warning(line)
        # The rest is what Dagster's own executor does, with other pools.
        yield dg.DagsterEvent.engine_event(
            plan_context,
            f"Executing steps in process (pid: {os.getpid()})",
            event_specific_data=EngineEventData.in_process(
                os.getpid(), execution_plan.step_keys_to_execute
            ),
        )
        yield from ExecuteRunWithPlanIterable(
            execution_plan=plan_context.execution_plan,
            iterator=_run_steps,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=plan_context.execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
                step_dependency_config=self.step_dependency_config,
            ),
        )


class WatchedPools(InstanceConcurrencyContext):
    """A run's places in the pools; a wait for one is logged, frees dead runs, and ends by a signal.

    The log is told for what the run waits, and what was freed.
    """

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun, log: Any) -> None:
        super().__init__(instance, run)
        self._log = log
        self._waits: dict[str, str] = {}
        self._look_at = 0.0

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Take a place for a step, if there is one.

        Raises:
            dagster.DagsterExecutionInterruptedError: The run was told to end.
        """
        if super().claim(concurrency_key, step_key, step_priority):
            self._waits.pop(step_key, None)
            return True
        if check_captured_interrupt():
            raise dg.DagsterExecutionInterruptedError
        now = time.time()
        # Dagster itself would look again only after up to 15 s.
        self._pending_timeouts[step_key] = min(
            self._pending_timeouts[step_key], now + _LOOK_EVERY_S
        )
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._look(concurrency_key, step_key)
        time.sleep(_SLEEP_S)
        return False

    def _look(self, pool: str, step_key: str) -> None:
        for line in free_dead_runs(self._instance):
            self._log.warning(line)
        runs = holders(self._instance, pool)
        if runs:
            wait = f"which {' and '.join(runs)} hold{'s' if len(runs) == 1 else ''}"
        elif self._instance.event_log_storage.get_concurrency_info(pool).slot_count == 0:
            wait = "which lets no run in: its limit is 0"
        else:
            # A place has just become free; the next look takes it.
            return
        if self._waits.get(step_key) != wait:
            self._waits[step_key] = wait
            self._log.warning(f"{step_key} waits for pool {pool}, {wait}")


def _run_steps(job_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
    instance, run = job_context.instance, job_context.dagster_run
    with WatchedPools(instance, run, job_context.log) as pools:
        yield from inner_plan_execution_iterator(job_context, execution_plan, pools)


@dg.executor(name="in_process", config_schema=IN_PROC_CONFIG)
def one_process_executor(init: dg.InitExecutorContext) -> dg.Executor:
    """Runs all steps in the run's process, like Dagster's own executor; waits are visible."""
    plain: Any = dg.in_process_executor.executor_creation_fn
    own = plain(init)
    return OneProcessExecutor(own.retries, own.step_dependency_config)
