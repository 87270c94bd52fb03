"""The launcher of runs on Kubernetes: Dagster's own, which knows runs that it did not launch.

A run that somebody starts with ``opencs materialize`` in a pod has no Job. Dagster's launcher would
take it for dead, and Dagster's monitor would fail it while it works.
"""

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher
from kubernetes.client import ApiException

from resources.processes import lives
from resources.runs.dead import STARTED_BY_HAND_TAG, process_of

_NOT_FOUND = 404
_ENDED_PHASES = {"Succeeded", "Failed"}


class ClusterRunLauncher(K8sRunLauncher):  # type: ignore[misc]
    """Launches runs as Kubernetes Jobs; ``dagster.yaml`` names it."""

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a run's pod works; a run that was started by hand is in the pod it notes."""
        process = process_of(run)
        if process is None or STARTED_BY_HAND_TAG not in run.tags:
            health: CheckRunHealthResult = super().check_run_worker_health(run)
            return health
        if lives(process) is False:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"process {process.pid} is gone")
        if not self._pod_works(process.host):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"pod {process.host} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _pod_works(self, name: str) -> bool:
        """Whether the pod of this name is there and has not ended; true where nobody can tell."""
        try:
            pod = self._api_client.core_api.read_namespaced_pod(name, self.job_namespace)
        except ApiException as error:
            status: int = error.status
            return status != _NOT_FOUND
        phase: str = pod.status.phase
        return phase not in _ENDED_PHASES
