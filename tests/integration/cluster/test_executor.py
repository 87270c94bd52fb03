"""``k8s_job_executor``: each step of a run in a pod of its own."""

from pathlib import Path

import dagster as dg
import pytest

from tests.integration.cluster.orchestrator import PARTITION, Orchestrator
from tests.kubernetes_node.client import JOBS


def step_jobs(orchestrator: Orchestrator, run_id: str) -> list[dict]:
    return [
        job
        for job in orchestrator.cluster.jobs(labels=f"dagster/run-id={run_id}")
        if job["metadata"]["name"].startswith("dagster-step-")
    ]


@pytest.mark.soak
@pytest.mark.train
def test_a_fine_tuning_finishes_in_its_steps_pod(training_orchestrator: Orchestrator):
    orchestrator, cluster = training_orchestrator, training_orchestrator.cluster
    cluster.clear_requests()
    run_id = orchestrator.launch("train_in_steps", {**PARTITION, "opencs/force": "true"})
    run_pod = orchestrator.pod_of(run_id)
    assert orchestrator.finish(run_id).status == dg.DagsterRunStatus.SUCCESS, cluster.log(run_pod)

    (step,) = step_jobs(orchestrator, run_id)
    assert step["metadata"]["labels"]["dagster/op"] == "checkpoint"
    assert len(cluster.requests("create", JOBS)) == 2
    event = orchestrator.instance.get_latest_materialization_event(dg.AssetKey("checkpoint"))
    assert event.run_id == run_id
    materialization = event.asset_materialization
    assert materialization.metadata["reused"].value is False
    assert (Path(str(materialization.metadata["checkpoint"].value)) / "opencs.json").exists()
    # The step's Job belongs to the run's pod, and goes with it.
    (owner,) = step["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", run_pod)
    cluster.batch.delete_namespaced_job(
        orchestrator.job_of(run_id), "default", propagation_policy="Background"
    )
    cluster.wait(lambda: not cluster.jobs(labels=f"dagster/run-id={run_id}"))
    cluster.wait(lambda: not cluster.pods(labels=f"dagster/run-id={run_id}"))


def test_a_run_that_is_terminated_ends_its_steps_pods(orchestrator: Orchestrator):
    cluster = orchestrator.cluster
    run_id = orchestrator.launch("waiting_in_steps")
    begun = orchestrator.home / "step_waits.started"
    cluster.wait(begun.exists, 90)
    (step,) = step_jobs(orchestrator, run_id)
    assert orchestrator.instance.run_launcher.terminate(run_id)
    assert orchestrator.finish(run_id).status == dg.DagsterRunStatus.CANCELED
    cluster.wait(lambda: not cluster.pods_of(step["metadata"]["name"]), 60)
    cluster.wait(lambda: not step_jobs(orchestrator, run_id))
    assert (orchestrator.home / "step_waits.interrupted").exists()
