"""The launcher's Jobs on a real API over HTTP, row by row of what goes wrong on a cluster."""

import os
import signal
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from opencs_assets.cli.doctor import examine
from resources.launcher.kubernetes import api, spec
from resources.remote import RemoteFolder
from resources.settings import load_settings
from tests.forks import FORKS
from tests.integration.cluster.launching import Launching, ask, launching
from tests.integration.deploy.test_chart import RIGHTS
from tests.integration.servers.s3 import s3_bucket
from tests.kubernetes_node.client import JOBS, PODS, Cluster

STEPS = [f"step {step}" for step in range(1, 6)]
SLOW = {"steps": 20, "step_s": 0.2}


@pytest.fixture
def home(cluster: Cluster, tmp_path: Path) -> Iterator[Launching]:
    """The cluster, and a home of the test's own."""
    with launching(cluster, tmp_path) as found:
        yield found


def steps_of(said: list[str]) -> list[str]:
    return [line for line in said if line.startswith("step ")]


def creations(home: Launching) -> list[Any]:
    return [each["status"] for each in home.cluster.requests("create", JOBS)]


def test_work_runs_in_a_job_that_is_removed_with_all_its_files(home, capfd):
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert (ran.result["rows"], ran.result["attempts"]) == (2, 1)
    assert ran.result["job"]["processes"] == 1
    assert ran.result["environment"] == {"OPENCS_HOME": str(home.home)}
    assert steps_of(ran.said) == STEPS
    # The pod's own log reaches whoever looks at the run's.
    assert "line 5" in capfd.readouterr().err
    home.cluster.wait(lambda: not home.cluster.jobs() and not home.cluster.pods())
    assert not list((home.home / "jobs").rglob("*.json"))
    assert not list((home.home / "jobs").rglob("*.jsonl"))


# Row: API 429 with and without Retry-After, 500, connection reset, at each call.


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "code": 429},
        {"kind": "status", "code": 429, "retry_after": 1},
        {"kind": "status", "code": 500},
        {"kind": "reset"},
        pytest.param({"kind": "status", "code": 503}, marks=pytest.mark.soak),
        pytest.param({"kind": "hang"}, marks=pytest.mark.soak),
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_each_call_is_tried_again(home, fault, monkeypatch):
    monkeypatch.setattr(api, "TIMEOUT_S", (2.0, 2.0))
    for verb, path in [
        ("list", JOBS),
        ("create", JOBS),
        ("get", JOBS),
        ("list", PODS),
        ("get", f"{PODS}/.*/log"),
        ("delete", JOBS),
    ]:
        home.cluster.fail(verb=verb, path=path, **fault)
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert home.begun() == [0]
    assert steps_of(ran.said) == STEPS
    again = [line for line in ran.said if line.startswith("Kubernetes' API can't")]
    assert {line.split("can't ")[1].split(" now")[0] for line in again} == {
        "list Jobs",
        "create the Job",
        "read the Job",
        "list pods",
        "delete the Job",
    }
    home.cluster.wait(lambda: not home.cluster.jobs())


def test_retry_after_is_waited_for(home):
    home.cluster.fail("status", verb="create", path=JOBS, code=429, retry_after=2)
    assert home.run(home.work(steps=1)).result
    first, second = home.cluster.requests("create", JOBS)
    assert second["time"] - first["time"] >= 2


def test_an_api_that_stays_away_ends_the_run_but_not_the_job(home):
    home.configure(patience_s=2)
    running = home.start(home.work(**SLOW))
    home.at_step(2)
    with home.held():
        home.cluster.fail("status", verb="get", path=JOBS, code=503, times=None)
        ran = running.result(60)
        assert "Kubernetes' API did not let us read the Job for 2 s" in ran.failure
        assert ran.retries
        home.cluster.clear_faults()
        running = home.start_watching(home.work(**SLOW))
    again = running.result(60)
    assert again.result is not None, again.failure
    assert home.begun() == [0]


# Row: create answers 409 or is cut off after it took effect.


def test_a_create_that_was_cut_off_after_its_effect_is_one_training(home):
    home.cluster.fail("reset_after", verb="create", path=JOBS)
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert creations(home) == [None, 409]
    assert home.begun() == [0]
    assert not any("taken over" in line for line in ran.said)


def test_a_job_that_another_run_made_meanwhile_is_adopted(home):
    work = home.work(**SLOW)
    home.configure(poll_s=5)
    first = home.start(work)
    home.at_step(1)
    home.configure(poll_s=0.1)
    # The second run sees no Job at first, as if both had looked at once.
    home.cluster.fail("status", verb="get", path=f"{JOBS}/{home.job_name(work)}", code=404)
    second = home.run(work)
    assert second.result is not None, second.failure
    assert second.result["attempts"] == 1
    assert creations(home) == [201, 409]
    assert any("is taken over" in line for line in second.said)
    assert steps_of(second.said)[0] == "step 1"
    assert first.result(60).result is not None
    assert home.begun() == [0]


# Row: pod unschedulable; image can't be pulled; container can't be created.

SOON = {"schedule_within_s": 1, "start_within_s": 1}
NO_IMAGE = f"registry.example.com/none@sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("change", "says", "retries"),
    [
        (
            {"gpus": 4, **SOON},
            ["counting: no node took its pod within 1 s: 0/1 nodes", "Insufficient nvidia.com/gpu"],
            True,
        ),
        (
            {"service_account": "nobody", **SOON},
            ["no pod was made for it within 1 s", 'serviceaccount "nobody" not found'],
            True,
        ),
        (
            {"claims": {"/more": "missing"}, **SOON},
            ['persistentvolumeclaim "missing" not found'],
            True,
        ),
        ({"image": NO_IMAGE}, ["its image can't be pulled", "launcher.kubernetes"], False),
        (
            {"env_secrets": ["missing"]},
            ["can't be created (CreateContainerConfigError): secret \"", "launcher.kubernetes"],
            False,
        ),
        ({}, ["its container can't be created (CreateContainerError", "OCI runtime"], False),
    ],
    ids=["gpus", "account", "claim", "image", "secret", "node"],
)
def test_a_job_that_can_not_start_is_a_clear_failure_and_is_gone(home, change, says, retries):
    home.configure(**change)
    if not change:
        home.cluster.fail_pods("create_error", message="failed to create shim task: OCI runtime")
    ran = home.run(home.work())
    assert all(words in ran.failure for words in says), ran.failure
    assert "\n" not in ran.failure
    assert ran.retries is retries
    # It must not start later, when nobody waits for it.
    home.cluster.wait(lambda: not home.cluster.jobs() and not home.cluster.pods())


# Row: OOM-killed.


def test_out_of_memory_is_named_and_not_tried_again(home):
    running = home.start(home.work(**SLOW))
    home.at_step(1)
    (pod,) = home.cluster.pods()
    home.cluster.oom(pod["metadata"]["name"])
    ran = running.result(60)
    assert ran.failure.startswith("counting: out of memory: its pod was killed at its limit of 1Gi")
    assert not ran.retries
    assert home.begun() == [0]


# Row: evicted, preempted, node lost, pod deleted by hand.


def take_away(home: Launching, how: str, pod: str) -> None:
    if how == "deleted":
        home.cluster.core.delete_namespaced_pod(pod, "default")
    elif how == "evicted by the API":
        home.cluster.evict(pod, by="api", grace_s=1)
    else:
        {
            "evicted": home.cluster.evict,
            "preempted": home.cluster.preempt,
            "node lost": home.cluster.lose_node,
        }[how](pod)


@pytest.mark.parametrize(
    "how", ["evicted", "evicted by the API", "preempted", "node lost", "deleted"]
)
def test_a_pod_that_is_taken_away_goes_on_from_its_state(home, how):
    running = home.start(home.work(**SLOW))
    home.at_step(3)
    (pod,) = home.cluster.pods()
    take_away(home, how, pod["metadata"]["name"])
    ran = running.result(120)
    assert ran.result is not None, ran.failure
    assert ran.result["attempts"] == 2
    assert ran.result["resumed_from_step"] >= 3
    assert creations(home) == [201]
    assert any(f"pod {pod['metadata']['name']} was t" in line for line in ran.said)


def test_a_pod_that_had_to_be_killed_when_it_was_deleted_goes_on_too(home):
    # Its status is that of one which was out of memory; that it was being deleted tells them apart.
    home.configure(grace_s=1)
    running = home.start(home.work(deaf=True, **SLOW))
    home.at_step(2)
    (pod,) = home.cluster.pods()
    home.cluster.core.delete_namespaced_pod(pod["metadata"]["name"], "default")
    ran = running.result(120)
    assert ran.result is not None, ran.failure
    assert ran.result["resumed_from_step"] >= 2
    assert len(home.begun()) == 2


# Row: log stream dropped or silent for a long time.


@pytest.mark.parametrize("kind", ["drop", "silent", pytest.param("end", marks=pytest.mark.soak)])
def test_a_log_that_breaks_or_is_silent_loses_no_report(home, kind, capfd):
    home.cluster.fail_logs(kind, after_bytes=100, times=1)
    ran = home.run(home.work(steps=12, step_s=0.3))
    assert ran.result is not None, ran.failure
    assert steps_of(ran.said) == [f"step {step}" for step in range(1, 13)]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("line ")]
    assert len(set(lines)) == len(lines)
    if kind != "silent":
        assert len(lines) == 12


# Row: orchestrating process killed and restarted.


@pytest.fixture
def asking(home: Launching, tmp_path: Path) -> Iterator[ForkServerProcess]:
    """A process with a run of its own that asks for the slow work, which has begun."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    process = FORKS.Process(target=ask, args=(home.home, folder, tmp_path / "asking.err", SLOW))
    process.start()
    try:
        home.at_step(2)
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_whose_process_ended_leaves_its_job_to_the_next_one(home, asking, number, tmp_path):
    # SIGTERM without a wish to cancel the run is what a drained node sends to the run's pod.
    with home.held():
        os.kill(asking.pid, number)
        asking.join(60)
        (job,) = home.cluster.jobs()
        if number == signal.SIGTERM:
            said = (tmp_path / "asking.err").read_text()
            assert f"Job {job['metadata']['name']} goes on" in said
        running = home.start_watching(home.work(**SLOW))
    ran = running.result(60)
    assert ran.result is not None, ran.failure
    assert home.begun() == [0]
    assert creations(home) == [201]
    assert steps_of(ran.said) == [f"step {step}" for step in range(1, 21)]


def test_what_was_done_while_nobody_watched_is_read_by_the_run_that_repeats(home, asking, tmp_path):
    # A forced training must not be done again because the run's own pod was lost.
    asking.kill()
    asking.join(60)
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs()
    (job,) = home.cluster.jobs()
    home.cluster.wait_job(job["metadata"]["name"], "Complete")
    ran = home.run(home.work(**SLOW), {"dagster/parent_run_id": run.run_id})
    assert ran.result is not None, ran.failure
    assert home.begun() == [0]
    assert creations(home) == [201]
    assert len(steps_of(ran.said)) == 20
    home.cluster.wait(lambda: not home.cluster.jobs())


# Row: run terminated from the UI.


@pytest.mark.parametrize("forced", [False, True])
def test_a_run_that_is_terminated_stops_its_job_which_keeps_its_state(
    home, asking, tmp_path, forced
):
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs()
        # What every run launcher does before it sends SIGTERM.
        instance.report_run_canceling(run)
        if forced:
            # "Force terminate" does not wait for the process.
            instance.report_run_canceled(run)
        asking.terminate()
        asking.join(60)
        found = instance.get_run_by_id(run.run_id)
        assert found.status == dg.DagsterRunStatus.CANCELED
    home.cluster.wait(lambda: not home.cluster.jobs() and not home.cluster.pods())
    ran = home.run(home.work(**SLOW))
    assert ran.result is not None, ran.failure
    assert ran.result["resumed_from_step"] >= 2


# Row: delete answers 404.


def test_a_job_that_is_gone_already_is_a_success(home):
    home.cluster.fail("status", verb="delete", path=JOBS, code=404)
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure


def test_what_fails_after_the_end_is_no_failure_of_the_work(home):
    home.configure(patience_s=1)
    home.cluster.fail("status", verb="delete", path=JOBS, code=500, times=None)
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert any("is done but could not be removed" in line for line in ran.said)
    # The next one removes it, and does not take its old result for a new one.
    home.cluster.wait(lambda: home.cluster.jobs())
    home.cluster.clear_faults()
    again = home.run(home.work())
    assert again.result is not None, again.failure
    assert home.begun() == [0, 5]


def test_a_job_that_was_deleted_by_hand_is_a_clear_failure(home):
    work = home.work(**SLOW)
    running = home.start(work)
    home.at_step(2)
    home.cluster.batch.delete_namespaced_job(
        home.job_name(work), "default", propagation_policy="Background"
    )
    ran = running.result(60)
    assert "its Job was deleted while it ran" in ran.failure
    again = home.run(work)
    assert again.result is not None, again.failure
    assert again.result["resumed_from_step"] >= 2


# Errors of the job itself.


@pytest.mark.parametrize(
    ("do", "says", "attempts", "retries"),
    [
        ("refuse", "counting: the folder is full at step 2; free 2 GB", 1, False),
        ("crash", "counting: ValueError: bad number at step 2", 1, True),
        ("segfault", "counting: its pod ended with exit status 139", 2, True),
    ],
)
def test_an_error_of_the_job_is_one_clear_failure(home, do, says, attempts, retries):
    home.configure(retries=1)
    ran = home.run(home.work(do=do, at=2, when=[1, 2, 3]))
    assert ran.failure.startswith(says)
    assert ran.retries is retries
    assert len(home.begun()) == attempts


def test_a_crash_that_is_no_error_of_the_job_is_mended_by_its_repeat(home):
    ran = home.run(home.work(do="segfault", at=3))
    assert ran.result is not None, ran.failure
    assert home.begun() == [0, 2]


def test_a_job_that_takes_too_long_is_a_clear_failure(home):
    home.configure(deadline_s=2)
    ran = home.run(home.work(**SLOW))
    assert "did not end within 2 s" in ran.failure


# What other runs left.


def test_a_failed_job_makes_room_for_the_next(home):
    assert home.run(home.work(do="refuse", at=2)).failure
    (job,) = home.cluster.jobs()
    assert spec.COMPONENT.items() <= job["metadata"]["labels"].items()
    ran = home.run(home.work(do="refuse", at=2))
    assert ran.result is not None, ran.failure
    assert home.begun() == [0, 1]


def test_a_job_of_the_partition_from_other_inputs_is_removed_unless_a_run_waits(home):
    old = home.start(home.work("old", **SLOW))
    home.at_step(1, "old")
    ran = home.run(home.work("new", steps=1))
    assert ran.result is not None, ran.failure
    assert any("a run waits for it" in line for line in ran.said)
    assert old.result(60).result is not None

    home.configure(patience_s=0.5)
    orphaned = home.start(home.work("orphan", **SLOW))
    home.at_step(1, "orphan")
    home.cluster.fail("status", verb="get", path=JOBS, code=503, times=None)
    assert orphaned.result(60).failure
    home.cluster.clear_faults()
    home.configure(patience_s=30)
    ran = home.run(home.work("newer", steps=1))
    assert ran.result is not None, ran.failure
    assert any("from other inputs; it is removed" in line for line in ran.said)
    home.cluster.wait(lambda: not home.cluster.jobs() and not home.cluster.pods())


# Rights and places.


def test_the_doctor_says_whether_jobs_can_be_made(home):
    def found() -> Any:
        settings = load_settings(home.home)
        return next(each for each in examine(settings) if each.what == "launcher")

    assert (found().state, found().detail) == (
        "ok",
        "kubernetes; Jobs in namespace default, 0 GPUs a pod, 0 Jobs there now",
    )
    home.configure(kubeconfig=str(home.cluster.kubeconfig_for([], "none")))
    assert found().state == "problem"
    assert "Kubernetes refuses to list Jobs: " in found().detail
    home.configure(kubeconfig=str(home.home / "nothing"))
    assert found().state == "problem"
    assert "set launcher.kubernetes.kubeconfig" in found().detail


def test_the_charts_rights_are_enough_and_no_rights_are_a_clear_failure(home):
    # Those that test_chart.py finds in the chart's Role of run pods.
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for group, resource, verb in RIGHTS["opencs-run"]
    ]
    may = str(home.cluster.kubeconfig_for(rules, "run"))
    home.configure(kind="kubernetes_multinode", nodes=2, kubeconfig=may)
    ran = home.run(home.work(steps=1))
    assert ran.result is not None, ran.failure
    home.configure(nodes=1)
    home.cluster.fail_pods("pull_error")
    ran = home.run(home.work())
    assert "its image can't be pulled" in ran.failure
    home.cluster.clear_faults()
    home.configure(kubeconfig=str(home.cluster.kubeconfig_for([], "none")))
    ran = home.run(home.work("p2"))
    assert "Kubernetes refuses to " in ran.failure
    assert "forbidden" in ran.failure
    assert not ran.retries


def test_a_place_that_no_pod_has_is_refused_before_anything_is_made(home, tmp_path):
    work = home.work()
    ran = home.run(type(work)(**{**vars(work), "places": (str(tmp_path / "models"),)}))
    assert "is on no volume that its pods have" in ran.failure
    assert not creations(home)


def test_environment_secrets_come_by_reference_alone(home):
    home.cluster.add_secret("opencs-env", GREETING="a secret word")
    home.configure(env_secrets=["opencs-env"])
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert ran.result["environment"]["GREETING"] == "a secret word"
    (made,) = home.cluster.requests("create", JOBS)
    assert "a secret word" not in str(made["body"])


def test_job_files_and_reports_may_be_in_object_storage(home, tmp_path):
    with s3_bucket(tmp_path) as bucket:
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        home.cluster.add_secret("storage", **{name: os.environ[name] for name in names})
        home.configure(jobs_url=f"{bucket}/jobs", env_secrets=["storage"])
        ran = home.run(home.work())
        assert ran.result is not None, ran.failure
        assert ran.result["rows"] == 2
        assert steps_of(ran.said) == STEPS
        assert not RemoteFolder(f"{bucket}/jobs").sizes()


def test_several_nodes_find_each_other_and_the_first_one_reports(home):
    home.configure(kind="kubernetes_multinode", nodes=2)
    work = home.work(step_s=0.3)
    ran = home.run(work)
    assert ran.result is not None, ran.failure
    assert ran.result["job"]["nodes"] == 2
    name = home.job_name(work)
    assert ran.result["environment"]["JOB_COMPLETION_INDEX"] == "0"
    assert steps_of(ran.said).count("step 5") == 1
    (service,) = home.cluster.requests("create", "/services")
    assert service["body"]["metadata"]["name"] == name
    assert service["body"]["spec"]["clusterIP"] == "None"
    (deleted,) = home.cluster.requests("delete", "/services")
    assert deleted["path"].endswith(name)


@pytest.mark.timeout(120)
def test_a_log_that_never_ends_is_left_behind(home):
    home.cluster.fail_logs("silent", times=None)
    ran = home.run(home.work())
    assert ran.result is not None, ran.failure
    assert steps_of(ran.said) == STEPS
