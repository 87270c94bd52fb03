"""``K8sRunLauncher``: runs of the platform as pods, from their launch to every kind of end."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import (
    DagsterK8sAPIRetryLimitExceeded,
    DagsterK8sUnrecoverableAPIError,
    DagsterKubernetesClient,
)

from resources.processes import this_process
from resources.runs.dead import PROCESS_TAG, STARTED_BY_HAND_TAG
from tests.integration.cluster.orchestrator import PARTITION, Orchestrator, orchestrating
from tests.kubernetes_node.client import IMAGE, JOBS, PODS, PYTHON_IMAGE, Cluster


def health(orchestrator: Orchestrator, run_id: str) -> Any:
    return orchestrator.instance.run_launcher.check_run_worker_health(orchestrator.run(run_id))


def waiting(orchestrator: Orchestrator) -> Path:
    """Wait until the waiting asset waits; returns the file that says that it was told to end."""
    begun = orchestrator.home / "waits.started"
    orchestrator.cluster.wait(begun.exists, 60)
    begun.unlink()
    return orchestrator.home / "waits.interrupted"


@pytest.mark.soak
@pytest.mark.train
def test_a_fine_tuning_finishes_in_the_runs_pod(training_orchestrator: Orchestrator):
    orchestrator, cluster = training_orchestrator, training_orchestrator.cluster
    cluster.clear_requests()
    run_id = orchestrator.launch("train_job", {**PARTITION, "opencs/force": "true"})
    pod = orchestrator.pod_of(run_id)
    assert health(orchestrator, run_id).status == WorkerStatus.RUNNING
    assert orchestrator.finish(run_id).status == dg.DagsterRunStatus.SUCCESS, cluster.log(pod)

    (created,) = cluster.requests("create", JOBS)
    assert created["status"] == 201
    labels = cluster.wait_phase(orchestrator.job_of(run_id), "Succeeded")["metadata"]["labels"]
    assert labels["dagster/run-id"] == run_id
    cluster.wait_job(orchestrator.job_of(run_id), "Complete")
    assert health(orchestrator, run_id).status == WorkerStatus.SUCCESS

    event = orchestrator.instance.get_latest_materialization_event(dg.AssetKey("checkpoint"))
    assert event.run_id == run_id
    materialization = event.asset_materialization
    told = {name: value.value for name, value in materialization.metadata.items()}
    assert (told["samples"], told["steps"]) == (4, 2)
    marker = Path(str(told["checkpoint"])) / "opencs.json"
    assert json.loads(marker.read_text())
    assert marker.is_relative_to(orchestrator.home)


def test_a_run_that_is_terminated_ends_its_pod_and_is_told_so(orchestrator: Orchestrator):
    run_id = orchestrator.launch("waiting_job")
    told = waiting(orchestrator)
    assert health(orchestrator, run_id).status == WorkerStatus.RUNNING
    assert orchestrator.instance.run_launcher.terminate(run_id)
    assert orchestrator.finish(run_id).status == dg.DagsterRunStatus.CANCELED
    assert told.exists()
    told.unlink()
    orchestrator.cluster.wait(lambda: not orchestrator.cluster.pods_of(orchestrator.job_of(run_id)))
    # What is gone already can't be ended again, and is not an error.
    assert not orchestrator.instance.run_launcher.terminate(run_id)


def test_a_worker_that_is_out_of_memory_fails_its_run_and_says_so(orchestrator: Orchestrator):
    cluster = orchestrator.cluster
    run_id = orchestrator.launch("waiting_job")
    told = waiting(orchestrator)
    cluster.oom(orchestrator.pod_of(run_id))
    cluster.wait_job(orchestrator.job_of(run_id), "Failed")
    assert not told.exists()
    assert health(orchestrator, run_id).status == WorkerStatus.FAILED
    # Nobody but run monitoring finds out.
    assert orchestrator.run(run_id).status == dg.DagsterRunStatus.STARTED
    list(execute_run_monitoring_iteration(orchestrator.context, logging.getLogger("monitoring")))
    assert orchestrator.run(run_id).status == dg.DagsterRunStatus.FAILURE
    said = "\n".join(orchestrator.said(run_id))
    assert "Terminated with exit code 137: OOMKilled" in said


def monitored(orchestrator: Orchestrator) -> None:
    """What Dagster's daemon does now and then."""
    logger = logging.getLogger("monitoring")
    list(execute_run_monitoring_iteration(orchestrator.context, logger))
    list(execute_concurrency_slots_iteration(orchestrator.context, logger))


def test_what_a_killed_pod_held_is_freed_and_what_a_living_one_holds_is_not(
    orchestrator: Orchestrator,
):
    storage = orchestrator.instance.event_log_storage
    storage.set_concurrency_slots("gpu", 2)

    def holders() -> set[str]:
        return {slot.run_id for slot in storage.get_concurrency_info("gpu").claimed_slots}

    killed = orchestrator.launch("waiting_job")
    waiting(orchestrator)
    living = orchestrator.launch("waiting_job")
    waiting(orchestrator)
    assert holders() == {killed, living}
    orchestrator.cluster.oom(orchestrator.pod_of(killed))
    orchestrator.cluster.wait_job(orchestrator.job_of(killed), "Failed")
    orchestrator.cluster.wait(lambda: monitored(orchestrator) or holders() == {living})
    assert orchestrator.run(killed).status == dg.DagsterRunStatus.FAILURE
    assert orchestrator.run(living).status == dg.DagsterRunStatus.STARTED
    assert orchestrator.instance.run_launcher.terminate(living)
    orchestrator.finish(living)


def test_a_run_that_was_started_by_hand_lives_as_long_as_its_process_and_its_pod(
    orchestrator: Orchestrator,
):
    """It has no Job: Dagster's own launcher takes it for dead while it works."""
    pod_run = orchestrator.launch("waiting_job")
    waiting(orchestrator)
    pod = orchestrator.pod_of(pod_run)

    def by_hand(**process: Any) -> str:
        run = create_run_for_test(orchestrator.instance, status=dg.DagsterRunStatus.STARTED)
        noted = {**this_process().as_dict(), **process, "run": run.run_id}
        tags = {PROCESS_TAG: json.dumps(noted), STARTED_BY_HAND_TAG: "true"}
        orchestrator.instance.add_run_tags(run.run_id, tags)
        return run.run_id

    in_a_pod = by_hand(host=pod, namespace="its own")
    gone = by_hand(host="opencs-toolbox-gone", namespace="its own")
    by_own_launcher = K8sRunLauncher.check_run_worker_health
    launcher = orchestrator.instance.run_launcher
    assert by_own_launcher(launcher, orchestrator.run(in_a_pod)).status == WorkerStatus.UNKNOWN
    monitored(orchestrator)
    assert orchestrator.run(in_a_pod).status == dg.DagsterRunStatus.STARTED
    assert orchestrator.run(gone).status == dg.DagsterRunStatus.FAILURE
    assert "pod opencs-toolbox-gone is gone" in "\n".join(orchestrator.said(gone))
    assert launcher.terminate(pod_run)
    orchestrator.finish(pod_run)
    orchestrator.cluster.wait(
        lambda: not orchestrator.cluster.pods_of(orchestrator.job_of(pod_run))
    )
    monitored(orchestrator)
    assert orchestrator.run(in_a_pod).status == dg.DagsterRunStatus.FAILURE


def test_a_run_whose_image_is_not_there_waits_without_an_end(orchestrator: Orchestrator):
    # The launcher does not look at its pod: that the image is missing stands in the pod alone, and
    # only run monitoring's start timeout ends the run.
    orchestrator.cluster.fail_pods("pull_error", pod="^dagster-run-", times=1)
    run_id = orchestrator.launch("waiting_job")
    pod = orchestrator.pod_of(run_id)

    def reason() -> str | None:
        (found,) = orchestrator.cluster.pods_of(orchestrator.job_of(run_id))
        (status,) = found["status"].get("containerStatuses") or [{"state": {}}]
        return status["state"].get("waiting", {}).get("reason")

    orchestrator.cluster.wait(lambda: reason() == "ImagePullBackOff")
    assert health(orchestrator, run_id).status == WorkerStatus.RUNNING
    debug = orchestrator.instance.run_launcher.get_run_worker_debug_info(orchestrator.run(run_id))
    assert f"Debug information for pod {pod}" in debug
    assert "Failed to pull image" in debug
    assert orchestrator.instance.run_launcher.terminate(run_id)
    orchestrator.cluster.clear_faults()
    orchestrator.cluster.wait(lambda: not orchestrator.cluster.pods_of(orchestrator.job_of(run_id)))


class TestDagstersClient:
    """What dagster-k8s' own client retries, and what it does not."""

    @pytest.fixture
    def client(self, cluster: Cluster) -> DagsterKubernetesClient:
        api = cluster.client()
        return DagsterKubernetesClient.production_client(
            kubernetes.client.BatchV1Api(api), kubernetes.client.CoreV1Api(api)
        )

    @pytest.fixture
    def create(self, client: DagsterKubernetesClient) -> Iterator[Any]:
        body = {
            "metadata": {"name": "j"},
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "c", "image": IMAGE, "args": ["true"]}],
                    }
                }
            },
        }
        return lambda: client.create_namespaced_job_with_retries(body, "default", 0.01)

    @pytest.mark.parametrize("fault", [{"code": 500}, {"code": 503}, {"kind": "reset"}])
    def test_a_create_is_tried_four_times(self, cluster, create, fault):
        cluster.fail(**{"kind": "status", "verb": "create", "path": JOBS, "times": 3, **fault})
        create()
        assert len(cluster.requests("create", JOBS)) == 4
        cluster.fail(**{"kind": "status", "verb": "create", "path": JOBS, "times": 4, **fault})
        with pytest.raises(DagsterK8sAPIRetryLimitExceeded):
            create()

    def test_a_create_that_was_cut_off_after_its_effect_is_one_job_and_an_error(
        self, cluster, create
    ):
        # It takes the second answer, 409, for another's Job: only answers count as attempts.
        cluster.fail("reset_after", verb="create", path=JOBS)
        with pytest.raises(DagsterK8sUnrecoverableAPIError):
            create()
        assert [each["status"] for each in cluster.requests("create", JOBS)] == [None, 409]
        assert len(cluster.jobs()) == 1

    @pytest.mark.parametrize("retry_after", [None, 1])
    def test_a_create_that_is_one_too_many_is_not_tried_again(self, cluster, create, retry_after):
        cluster.fail("status", verb="create", path=JOBS, code=429, retry_after=retry_after)
        with pytest.raises(DagsterK8sUnrecoverableAPIError):
            create()
        assert len(cluster.requests("create", JOBS)) == 1

    def test_a_status_that_is_one_too_many_is_asked_again_only_where_told_when(
        self, cluster, client, create
    ):
        create()
        cluster.fail("status", verb="get", path=f"{JOBS}/j/status", code=429)
        with pytest.raises(DagsterK8sUnrecoverableAPIError):
            client.get_job_status("j", "default", 0.01)
        cluster.fail("status", verb="get", path=f"{JOBS}/j/status", code=429, retry_after=0)
        assert client.get_job_status("j", "default", 0.01) is not None

    @pytest.mark.parametrize("fault", [{"code": 500}, {"code": 429}])
    def test_a_delete_is_never_tried_again(self, cluster, client, create, fault):
        create()
        cluster.fail("status", verb="delete", path=JOBS, **fault)
        with pytest.raises(kubernetes.client.ApiException):
            client.delete_job("j", "default")
        assert len(cluster.jobs()) == 1

    def test_a_list_of_pods_for_a_delete_is_never_tried_again(self, cluster, client, create):
        create()
        cluster.fail("status", verb="list", path=PODS, code=500)
        with pytest.raises(kubernetes.client.ApiException):
            client.delete_job("j", "default")
        assert not cluster.requests("delete")


def test_a_run_on_postgres_has_its_password_by_reference_alone(
    cluster: Cluster, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    home.mkdir()
    image = {**PYTHON_IMAGE, "KUBECONFIG": str(cluster.kubeconfig)}
    cluster.configure(claims={"home": str(home)}, images={IMAGE: image})
    # With SQLAlchemy 2.1 a plain ``postgresql://`` is psycopg 3, which refuses Dagster's NOTIFY.
    url = postgres_url.replace("postgresql+psycopg://", "postgresql+psycopg2://")
    storage = {"postgres": {"postgres_url": {"env": "DAGSTER_PG_PASSWORD"}}}
    monkeypatch.setenv("OPENCS_HOME", str(home))
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", url)
    with orchestrating(
        cluster, home, storage, postgres_password_secret="dagster-postgresql", platform=False
    ) as running:
        cluster.add_secret("dagster-postgresql", **{"postgresql-password": url})
        run_id = running.launch("waiting_job")
        waiting(running)
        assert running.run(run_id).status == dg.DagsterRunStatus.STARTED
        assert url not in json.dumps(cluster.jobs())
        assert running.instance.run_launcher.terminate(run_id)
        assert running.finish(run_id).status == dg.DagsterRunStatus.CANCELED
