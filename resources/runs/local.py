"""The launcher of runs on one machine: Dagster's own, which can also say whether a run lives."""

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

from resources.runs.dead import LAUNCHER_TAG, is_dead, note_process


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Launches runs as processes of this machine; ``dagster.yaml`` names it."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Dagster's monitor may ask whether a run's process lives."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run, after noting which process starts it."""
        run_id = context.dagster_run.run_id
        self._instance.add_run_tags(run_id, note_process(run_id, LAUNCHER_TAG))
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a run's process lives; true for a process that can't be seen from here."""
        if is_dead(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
