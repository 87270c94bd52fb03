"""The tests' cluster, through the real client: it does what Kubernetes documents."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from tests.integration.cluster.conftest import IMAGE, JOBS, PODS, Cluster, started

# The tests of a tool of the tests.
pytestmark = pytest.mark.soak
SHELL = {"PATH": "/usr/bin:/bin"}
DEFAULTS: dict[str, Any] = {
    "images": {IMAGE: SHELL},
    "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "2"},
    "node_labels": {},
    "taints": [],
    "env": {},
    "tokens": {},
    "grace_scale": 1.0,
}
WAITS = "trap 'exit 75' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    claim = folder / "claim"
    with started(folder, claims={"home": str(claim)}, node_loss_s=0.15, **DEFAULTS) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The file's cluster as it was at first, and empty."""
    yield shared
    shared.clear_faults()
    shared.configure(**DEFAULTS)
    for job in shared.jobs():
        shared.batch.delete_namespaced_job(
            job["metadata"]["name"], "default", propagation_policy="Background"
        )
    shared.wait(lambda: not shared.jobs())
    for pod in shared.pods():
        with contextlib.suppress(ApiException):
            shared.core.delete_namespaced_pod(
                pod["metadata"]["name"], "default", grace_period_seconds=0
            )
    shared.wait(lambda: not shared.pods())
    shared.clear_requests()


def container(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **more}


def pod_spec(script: str, spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"restartPolicy": "Never", "containers": [container(script, **more)], **(spec or {})}


def add_pod(cluster: Cluster, script: str, name: str = "p", **more: Any) -> None:
    body = {"metadata": {"name": name}, "spec": pod_spec(script, **more)}
    cluster.core.create_namespaced_pod("default", body)


def add_job(
    cluster: Cluster,
    script: str,
    job: dict[str, Any] | None = None,
    name: str = "j",
    **more: Any,
) -> None:
    spec = {"template": {"spec": pod_spec(script, **more)}, **(job or {})}
    body = {"metadata": {"name": name}, "spec": spec}
    cluster.batch.create_namespaced_job("default", body)


def pod_of(cluster: Cluster, name: str = "p") -> dict[str, Any]:
    return next(pod for pod in cluster.pods() if pod["metadata"]["name"] == name)


def state(pod: dict[str, Any], place: int = 0) -> dict[str, Any]:
    return pod["status"]["containerStatuses"][place]["state"]


def waits_for(cluster: Cluster, reason: str, name: str = "p") -> dict[str, Any]:
    """Wait until the pod's container waits for this reason; returns its state."""

    def found() -> dict[str, Any] | None:
        pod = pod_of(cluster, name)
        statuses = pod["status"].get("containerStatuses") or []
        states = [each["state"].get("waiting", {}) for each in statuses]
        return next((each for each in states if each.get("reason") == reason), None)

    return cluster.wait(found)


def ended(cluster: Cluster, name: str = "p") -> dict[str, Any]:
    """Wait until a pod has ended; returns it."""
    return cluster.wait(
        lambda: (
            pod
            if (pod := pod_of(cluster, name))["status"]["phase"] in ("Succeeded", "Failed")
            else None
        )
    )


def says(cluster: Cluster, text: str, name: str = "p") -> None:
    """Wait until a pod has written something."""

    cluster.wait(lambda: text in log_so_far(cluster, name))


def log_so_far(cluster: Cluster, name: str = "p") -> str:
    """A pod's log, empty where it has not started."""
    with contextlib.suppress(ApiException):
        return cluster.log(name)
    return ""


def only_pod(cluster: Cluster, job: str = "j") -> str:
    """Wait until a Job's pod has said ``up``; returns its name."""
    name = cluster.wait_phase(job, "Running")["metadata"]["name"]
    says(cluster, "up", name)
    return name


def conditions(thing: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in thing["status"]["conditions"]}


def reasons(cluster: Cluster) -> set[str]:
    return {event["reason"] for event in cluster.events()}


class TestPods:
    def test_a_pod_goes_from_pending_to_succeeded_and_tells_its_times(self, cluster):
        seen = []
        watch = kubernetes.watch.Watch()
        thread = threading.Thread(
            target=lambda: seen.extend(
                (event["type"], event["object"].status.phase)
                for event in watch.stream(
                    cluster.core.list_namespaced_pod, "default", timeout_seconds=3
                )
            )
        )
        thread.start()
        add_pod(cluster, "echo hello; echo there >&2")
        pod = ended(cluster)
        assert pod["status"]["phase"] == "Succeeded"
        done = state(pod)["terminated"]
        assert (done["exitCode"], done["reason"]) == (0, "Completed")
        assert done["startedAt"] <= done["finishedAt"]
        assert conditions(pod)["PodScheduled"]["status"] == "True"
        assert conditions(pod)["Ready"]["reason"] == "PodCompleted"
        assert cluster.log("p") == "hello\nthere\n"
        cluster.core.delete_namespaced_pod("p", "default")
        thread.join()
        kinds = [kind for kind, _ in seen]
        assert (kinds[0], kinds[-1]) == ("ADDED", "DELETED")
        phases = [phase for _, phase in seen]
        assert list(dict.fromkeys(phases)) == ["Pending", "Running", "Succeeded"]

    def test_a_container_has_only_what_its_pod_says(self, cluster, monkeypatch):
        cluster.add_secret("keys", token="s3cret", other="x")
        cluster.add_config_map("conf", {"A": "from map", "B": "b"})
        env = [
            {"name": "A", "value": "own"},
            {"name": "BOTH", "value": "$(A) $(TOKEN) $(NONE) $$(A)"},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "B"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {
                "name": "ROLE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['role']"}},
            },
            {
                "name": "MAYBE",
                "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}},
            },
        ]
        env.insert(
            1, {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
        )
        spec = pod_spec("env", env=env, envFrom=[{"configMapRef": {"name": "conf"}}])
        body = {"metadata": {"name": "p", "labels": {"role": "worker"}}, "spec": spec}
        cluster.core.create_namespaced_pod("default", body)
        assert ended(cluster)["status"]["phase"] == "Succeeded"
        log = cluster.log("p")
        found = dict(line.split("=", 1) for line in log.splitlines())
        home = found.pop("HOME")
        assert Path(home).is_relative_to(cluster.folder)
        for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(shells_own, None)
        assert found == {
            "PATH": "/usr/bin:/bin",
            "HOSTNAME": "p",
            "A": "own",
            "B": "b",
            "TOKEN": "s3cret",
            "BOTH": "own s3cret $(NONE) $(A)",
            "KEY": "b",
            "POD": "p",
            "ROLE": "worker",
        }

    def test_init_containers_run_first_and_fail_the_pod(self, cluster):
        first = {"initContainers": [{**container("exit 3"), "name": "first"}]}
        add_pod(cluster, "echo never", spec=first)
        pod = ended(cluster)
        assert pod["status"]["phase"] == "Failed"
        (init,) = pod["status"]["initContainerStatuses"]
        assert init["state"]["terminated"]["exitCode"] == 3
        assert state(pod) == {"waiting": {"reason": "PodInitializing"}}

    def test_restarts_a_container_where_the_pod_says_so(self, cluster):
        add_pod(cluster, "echo again; exit 1", spec={"restartPolicy": "OnFailure"})
        waits_for(cluster, "CrashLoopBackOff")
        status = cluster.wait(
            lambda: next(
                (
                    each
                    for each in pod_of(cluster)["status"]["containerStatuses"]
                    if each["restartCount"] >= 2
                ),
                None,
            )
        )
        assert status["lastState"]["terminated"]["exitCode"] == 1

    def test_volumes_are_folders_at_the_mount_path(self, cluster):
        cluster.add_config_map("files", {"a.txt": "content"})
        work = cluster.folder / "work"
        mounts = [
            {"name": "home", "mountPath": cluster.claims["home"]},
            {"name": "files", "mountPath": str(work / "a.txt"), "subPath": "a.txt"},
            {"name": "scratch", "mountPath": str(work / "scratch")},
            {"name": "memory", "mountPath": "/dev/shm"},
        ]
        volumes = [
            {"name": "home", "persistentVolumeClaim": {"claimName": "home"}},
            {"name": "files", "configMap": {"name": "files"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ]
        script = (
            f"cat {work}/a.txt > {work}/scratch/b && cp {work}/scratch/b {cluster.claims['home']}"
        )
        add_pod(cluster, script, spec={"volumes": volumes}, volumeMounts=mounts)
        assert ended(cluster)["status"]["phase"] == "Succeeded"
        assert (Path(cluster.claims["home"]) / "b").read_text() == "content"
        assert not (work / "a.txt").exists()
        assert not (work / "scratch").exists()

    def test_a_mount_path_that_cannot_be_had_is_said(self, cluster):
        mounts = [{"name": "home", "mountPath": "/etc"}]
        volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]
        add_pod(cluster, "true", spec={"volumes": volumes}, volumeMounts=mounts)
        waiting = waits_for(cluster, "CreateContainerConfigError")
        assert "mountPath /etc is there and is not" in waiting["message"]

    def test_sigterm_reaches_the_process_and_its_exit_is_told(self, cluster):
        add_job(cluster, WAITS, {"backoffLimit": 0})
        name = only_pod(cluster)
        watch = cluster.core.list_namespaced_pod("default")
        cluster.core.delete_namespaced_pod(name, "default")
        cluster.wait_job("j", "Failed")
        codes = [
            status.state.terminated.exit_code
            for event in kubernetes.watch.Watch().stream(
                cluster.core.list_namespaced_pod,
                "default",
                resource_version=watch.metadata.resource_version,
                timeout_seconds=1,
            )
            for status in event["object"].status.container_statuses
            if status.state.terminated
        ]
        assert set(codes) == {75}

    def test_who_does_not_handle_sigterm_is_killed_after_the_grace(self, cluster):
        # Not even a trap: the first process of a container has no default action.
        for name, script in (("deaf", DEAF), ("plain", "echo up; exec sleep 60")):
            add_pod(cluster, script, name)
            says(cluster, "up", name)
            begin = time.monotonic()
            cluster.core.delete_namespaced_pod(name, "default", grace_period_seconds=1)
            deleted = pod_of(cluster, name)
            assert deleted["metadata"]["deletionGracePeriodSeconds"] == 1
            assert deleted["status"]["phase"] == "Running"
            cluster.wait(lambda: not cluster.pods())
            assert 0.9 < time.monotonic() - begin < 3

    def test_nothing_that_a_container_started_outlives_it(self, cluster):
        add_pod(cluster, "setsid sleep 60 & echo up $!; sleep 0.2; exit 0")
        ended(cluster)
        child = int(cluster.log("p").split()[1])
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    def test_a_command_that_is_not_there_is_a_start_error(self, cluster):
        body = {
            "metadata": {"name": "p"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": IMAGE, "command": ["no-such-program"]}],
            },
        }
        cluster.core.create_namespaced_pod("default", body)
        waits_for(cluster, "RunContainerError")
        done = state(ended(cluster))["terminated"]
        assert (done["exitCode"], done["reason"]) == (128, "StartError")
        assert '"no-such-program": executable file not found' in done["message"]

    def test_the_end_of_the_log_may_be_the_message(self, cluster):
        policy = "FallbackToLogsOnError"
        add_pod(cluster, "echo why; exit 9", terminationMessagePolicy=policy)
        assert state(ended(cluster))["terminated"]["message"] == "why\n"

    def test_a_pods_own_deadline_ends_it(self, cluster):
        add_pod(cluster, WAITS, spec={"activeDeadlineSeconds": 1})
        status = ended(cluster)["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


class TestWaitingPods:
    @pytest.mark.parametrize(
        ("change", "more", "says"),
        [
            (
                {},
                {"resources": {"limits": {"nvidia.com/gpu": "3"}}},
                "1 Insufficient nvidia.com/gpu",
            ),
            ({}, {"spec": {"nodeSelector": {"gpu": "h100"}}}, "didn't match Pod's node affinity"),
            (
                {"taints": [{"key": "spot", "value": "true", "effect": "NoSchedule"}]},
                {},
                "untolerated taint {spot: true}",
            ),
        ],
    )
    def test_what_the_node_lacks_leaves_a_pod_unschedulable(self, cluster, change, more, says):
        cluster.configure(**change)
        add_pod(cluster, "true", **more)
        pod = cluster.wait(
            lambda: pod if (pod := pod_of(cluster))["status"].get("conditions") else None
        )
        scheduled = conditions(pod)["PodScheduled"]
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
        assert scheduled["message"].startswith("0/1 nodes are available: 1 ")
        assert says in scheduled["message"]
        assert pod["status"]["phase"] == "Pending"
        (event,) = cluster.core.list_namespaced_event(
            "default", field_selector="involvedObject.name=p,reason=FailedScheduling"
        ).items[-1:]
        assert event.type == "Warning"

    def test_a_toleration_and_a_selector_that_fit_let_it_run(self, cluster):
        cluster.configure(
            taints=[{"key": "spot", "value": "true", "effect": "NoSchedule"}],
            node_labels={"gpu": "h100"},
        )
        spec = {
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        }
        limits = {"limits": {"nvidia.com/gpu": "2"}}
        add_pod(cluster, "true", spec=spec, resources=limits)
        assert ended(cluster)["status"]["phase"] == "Succeeded"

    def test_gpus_are_free_again_when_their_pod_ends(self, cluster):
        limits = {"limits": {"nvidia.com/gpu": "2"}}
        add_pod(cluster, WAITS, "first", resources=limits)
        says(cluster, "up", "first")
        add_pod(cluster, "true", "second", resources=limits)
        cluster.wait(lambda: pod_of(cluster, "second")["status"].get("conditions"))
        assert not pod_of(cluster, "second")["spec"].get("nodeName")
        cluster.core.delete_namespaced_pod("first", "default")
        assert ended(cluster, "second")["status"]["phase"] == "Succeeded"

    def test_unschedulable_until_the_fault_ends(self, cluster):
        cluster.fail_pods("unschedulable", pod="^j-", times=1)
        add_job(cluster, "true")
        (pod,) = cluster.wait(
            lambda: [p for p in cluster.pods_of("j") if "conditions" in p["status"]]
        )
        assert "1 Insufficient nvidia.com/gpu" in conditions(pod)["PodScheduled"]["message"]
        cluster.clear_faults()
        cluster.wait_job("j", "Complete")

    def test_an_unknown_image_is_pulled_in_vain_until_it_is_there(self, cluster):
        add_pod(cluster, "true", image="nowhere/none:1")
        waits_for(cluster, "ErrImagePull")
        waiting = waits_for(cluster, "ImagePullBackOff")
        assert 'Back-off pulling image "nowhere/none:1"' in waiting["message"]
        assert {"Failed", "BackOff"} <= reasons(cluster)
        with pytest.raises(ApiException, match="trying and failing to pull image") as caught:
            cluster.log("p")
        assert caught.value.status == 400
        cluster.configure(images={IMAGE: SHELL, "nowhere/none:1": SHELL})
        assert ended(cluster)["status"]["phase"] == "Succeeded"

    def test_a_missing_secret_is_a_config_error_until_it_is_there(self, cluster):
        reference = {"secretKeyRef": {"name": "late", "key": "k"}}
        add_pod(cluster, "true", env=[{"name": "A", "valueFrom": reference}])
        waiting = waits_for(cluster, "CreateContainerConfigError")
        assert waiting["message"] == 'secret "late" not found'
        cluster.add_secret("late", other="x")
        cluster.wait(
            lambda: (
                waits_for(cluster, "CreateContainerConfigError")["message"]
                == "couldn't find key k in Secret default/late"
            )
        )
        cluster.core.patch_namespaced_secret("late", "default", {"data": {"k": "eA=="}})
        assert ended(cluster)["status"]["phase"] == "Succeeded"

    def test_a_container_that_cannot_be_created_waits_for_that_reason(self, cluster):
        cluster.fail_pods("create_error", message="no space left on device")
        add_pod(cluster, "true")
        waiting = waits_for(cluster, "CreateContainerError")
        assert waiting["message"] == "no space left on device"

    def test_an_unknown_service_account_leaves_a_job_without_pods(self, cluster):
        add_job(cluster, "true", spec={"serviceAccountName": "nobody"})
        cluster.wait(lambda: "FailedCreate" in reasons(cluster))
        assert cluster.pods_of("j") == []


class TestEndedByOthers:
    def test_out_of_memory_is_137_and_names_itself(self, cluster):
        add_job(cluster, WAITS, {"backoffLimit": 0})
        cluster.oom(only_pod(cluster))
        done = state(cluster.wait_phase("j", "Failed"))["terminated"]
        assert (done["exitCode"], done["reason"]) == (137, "OOMKilled")
        assert cluster.wait_job("j", "Failed")["reason"] == "BackoffLimitExceeded"

    def test_evicted_by_the_kubelet_it_stays_and_says_so(self, cluster):
        add_job(cluster, WAITS, {"backoffLimit": 0})
        cluster.evict(only_pod(cluster))
        pod = cluster.wait_phase("j", "Failed")
        assert pod["status"]["reason"] == "Evicted"
        assert "low on resource: memory" in pod["status"]["message"]
        assert conditions(pod)["DisruptionTarget"]["reason"] == "TerminationByKubelet"
        assert state(pod)["terminated"]["exitCode"] == 75

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("api", "EvictionByEvictionAPI"),
            ("preempt", "PreemptionByScheduler"),
            ("lose", "DeletionByTaintManager"),
            ("delete", None),
        ],
    )
    def test_a_disrupted_pod_is_replaced_and_not_counted_where_ignored(self, cluster, how, reason):
        ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
        job = {"backoffLimit": 0, "podFailurePolicy": {"rules": [ignore]}}
        add_job(cluster, WAITS, job)
        first = only_pod(cluster)
        since = cluster.core.list_namespaced_pod("default").metadata.resource_version
        if how == "preempt":
            cluster.preempt(first)
        elif how == "lose":
            cluster.lose_node(first)
        elif how == "delete":
            cluster.core.delete_namespaced_pod(first, "default")
        else:
            body = {"metadata": {"name": first}}
            cluster.core.create_namespaced_pod_eviction(first, "default", body)
        if reason is None:
            # Nothing says that a person's delete was no fault of the pod's.
            cluster.wait_job("j", "Failed")
            return
        cluster.wait(lambda: [p for p in cluster.pods_of("j") if p["metadata"]["name"] != first])
        assert cluster.job("j")["status"].get("failed", 0) == 0
        told = [
            event["object"].status
            for event in kubernetes.watch.Watch().stream(
                cluster.core.list_namespaced_pod,
                "default",
                resource_version=since,
                timeout_seconds=1,
                field_selector=f"metadata.name={first}",
            )
        ]
        found = [each.reason for each in told[-1].conditions if each.type == "DisruptionTarget"]
        assert found == [reason]
        assert told[-1].phase == "Failed"

    def test_a_lost_node_gives_no_log(self, cluster):
        cluster.configure(node_loss_s=2.0)
        add_job(cluster, WAITS)
        name = only_pod(cluster)
        cluster.lose_node(name)
        cluster.configure(node_loss_s=0.15)
        with pytest.raises(ApiException) as caught:
            cluster.log(name)
        assert caught.value.status == 500
        assert pod_of(cluster, name)["status"]["phase"] == "Running"


class TestJobs:
    def test_a_job_makes_a_pod_of_its_own_and_completes(self, cluster):
        add_job(cluster, "true")
        cluster.wait_job("j", "Complete")
        job = cluster.batch.read_namespaced_job_status("j", "default")
        assert (job.status.succeeded, job.status.failed, job.status.active) == (1, None, None)
        assert job.status.start_time <= job.status.completion_time
        (pod,) = cluster.core.list_namespaced_pod("default", label_selector="job-name=j").items
        (owner,) = pod.metadata.owner_references
        assert (owner.kind, owner.uid, owner.controller) == ("Job", job.metadata.uid, True)
        assert pod.metadata.labels["batch.kubernetes.io/job-name"] == "j"
        assert pod.metadata.labels["controller-uid"] == job.metadata.uid
        assert not pod.metadata.finalizers

    def test_failures_are_tried_again_up_to_the_backoff_limit(self, cluster):
        add_job(cluster, "exit 1", {"backoffLimit": 2})
        failed = cluster.wait_job("j", "Failed")
        assert failed["reason"] == "BackoffLimitExceeded"
        assert failed["message"] == "Job has reached the specified backoff limit"
        assert cluster.job("j")["status"]["failed"] == 3
        assert len(cluster.pods_of("j")) == 3

    def test_all_indexes_complete_each_with_its_own(self, cluster):
        script = (
            "test $JOB_COMPLETION_INDEX = 1 && ! test -e $HOME/../../again && exit 1; "
            "echo $HOSTNAME $JOB_COMPLETION_INDEX"
        )
        job = {"completionMode": "Indexed", "completions": 3, "parallelism": 2, "backoffLimit": 9}
        mark = cluster.folder / "cluster" / "pods" / "again"
        add_job(cluster, script, job)
        cluster.wait(lambda: cluster.job("j")["status"].get("failed"))
        mark.touch()
        cluster.wait_job("j", "Complete")
        status = cluster.job("j")["status"]
        assert (status["completedIndexes"], status["succeeded"]) == ("0-2", 3)
        done = [pod for pod in cluster.pods_of("j") if pod["status"]["phase"] == "Succeeded"]
        said = {cluster.log(pod["metadata"]["name"]) for pod in done}
        assert said == {"j-0 0\n", "j-1 1\n", "j-2 2\n"}
        mark.unlink()

    def test_names_of_a_headless_services_pods_lead_here(self, cluster):
        service = {"clusterIP": "None", "selector": {"job-name": "j"}, "ports": [{"port": 29500}]}
        body = {"metadata": {"name": "group"}, "spec": service}
        cluster.core.create_namespaced_service("default", body)
        env = [{"name": "OPENCS_MASTER_ADDR", "value": "j-0.group.default.svc"}]
        add_pod(cluster, "echo $OPENCS_MASTER_ADDR j-0.group", env=env)
        ended(cluster)
        assert cluster.log("p") == "127.0.0.1 127.0.0.1\n"
        cluster.core.delete_namespaced_service("group", "default")

    @pytest.mark.parametrize(
        ("code", "action", "fails_at_once", "counted"),
        [
            (2, {"action": "FailJob", "operator": "In", "values": [2]}, True, 1),
            (3, {"action": "FailJob", "operator": "NotIn", "values": [2]}, True, 1),
            (75, {"action": "Count", "operator": "In", "values": [75]}, False, 3),
            (1, {"action": "FailJob", "operator": "In", "values": [2]}, False, 3),
        ],
    )
    def test_exit_codes_decide_as_the_policy_says(
        self, cluster, code, action, fails_at_once, counted
    ):
        rule = {
            "action": action["action"],
            "onExitCodes": {key: action[key] for key in ("operator", "values")},
        }
        add_job(
            cluster,
            f"exit {code}",
            {"backoffLimit": 2, "podFailurePolicy": {"rules": [rule]}},
        )
        failed = cluster.wait_job("j", "Failed")
        job = cluster.job("j")
        assert job["status"]["failed"] == counted
        assert conditions(job)["FailureTarget"]["reason"] == failed["reason"]
        if fails_at_once:
            assert failed["reason"] == "PodFailurePolicy"
            (pod,) = cluster.pods_of("j")
            assert failed["message"] == (
                f"Container main for pod default/{pod['metadata']['name']} failed with exit code "
                f"{code} matching FailJob rule at index 0"
            )
        else:
            assert failed["reason"] == "BackoffLimitExceeded"

    def test_an_ignored_exit_is_neither_counted_nor_the_end(self, cluster):
        rule = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}
        job = {"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}}
        add_job(cluster, "exit 75", job)
        cluster.wait(lambda: len(cluster.pods_of("j")) >= 3)
        assert "failed" not in cluster.job("j")["status"]

    def test_the_first_rule_that_matches_decides(self, cluster):
        rules = [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [75]}},
        ]
        add_job(cluster, WAITS, {"backoffLimit": 0, "podFailurePolicy": {"rules": rules}})
        first = only_pod(cluster)
        cluster.evict(first)
        cluster.wait(lambda: len(cluster.pods_of("j")) == 2)
        assert not cluster.job("j")["status"].get("conditions")

    def test_with_a_policy_a_pod_is_replaced_only_once_it_has_ended(self, cluster):
        ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
        add_job(cluster, DEAF, {"podFailurePolicy": {"rules": [ignore]}}, name="after")
        add_job(cluster, DEAF, name="at-once")
        for name in ("after", "at-once"):
            pod = only_pod(cluster, name)
            cluster.core.delete_namespaced_pod(pod, "default", grace_period_seconds=1)
        cluster.wait(lambda: len(cluster.pods_of("at-once")) == 2)
        assert len(cluster.pods_of("after")) == 1
        assert cluster.job("after")["status"]["terminating"] == 1
        cluster.wait(lambda: cluster.job("after")["status"].get("active"))

    def test_a_job_over_its_deadline_fails_and_ends_its_pods(self, cluster):
        add_job(cluster, WAITS, {"activeDeadlineSeconds": 1})
        assert cluster.wait_job("j", "Failed")["reason"] == "DeadlineExceeded"
        cluster.wait(lambda: not cluster.pods_of("j"))

    def test_deleting_a_job_leaves_its_pods_unless_told_otherwise(self, cluster):
        for name in ("kept", "background", "foreground"):
            add_job(cluster, WAITS, name=name)
            only_pod(cluster, name)
        cluster.batch.delete_namespaced_job("kept", "default")
        for how in ("background", "foreground"):
            policy = how.capitalize()
            cluster.batch.delete_namespaced_job(how, "default", propagation_policy=policy)
        gone = cluster.batch.list_namespaced_job("default").items
        assert {job.metadata.name for job in gone} <= {"foreground"}
        cluster.wait(lambda: not cluster.jobs())
        assert not cluster.pods_of("foreground")
        cluster.wait(lambda: not cluster.pods_of("background"))
        (kept,) = cluster.pods_of("kept")
        assert kept["status"]["phase"] == "Running"
        assert not kept["metadata"].get("ownerReferences")

    def test_an_owned_job_goes_with_its_owner(self, cluster):
        add_pod(cluster, WAITS)
        says(cluster, "up")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p"}
        owner["uid"] = pod_of(cluster)["metadata"]["uid"]
        body = {
            "metadata": {"name": "j", "ownerReferences": [owner]},
            "spec": {"template": {"spec": pod_spec(WAITS)}},
        }
        cluster.batch.create_namespaced_job("default", body)
        only_pod(cluster)
        cluster.core.delete_namespaced_pod("p", "default")
        cluster.wait(lambda: not cluster.jobs() and not cluster.pods())

    def test_a_finished_job_is_removed_after_its_time(self, cluster):
        add_job(cluster, "true", {"ttlSecondsAfterFinished": 1})
        cluster.wait(lambda: not cluster.jobs())
        cluster.wait(lambda: not cluster.pods())


class TestApi:
    def test_what_is_not_there_is_a_status_of_404(self, cluster):
        with pytest.raises(ApiException) as caught:
            cluster.batch.read_namespaced_job("none", "default")
        assert caught.value.status == 404
        assert json.loads(caught.value.body) == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": 'jobs.batch "none" not found',
            "reason": "NotFound",
            "details": {"name": "none", "group": "batch", "kind": "jobs"},
            "code": 404,
        }

    def test_a_taken_name_is_a_status_of_409(self, cluster):
        add_job(cluster, "true")
        with pytest.raises(ApiException) as caught:
            add_job(cluster, "false")
        body = json.loads(caught.value.body)
        assert (caught.value.status, body["reason"]) == (409, "AlreadyExists")
        assert body["message"] == 'jobs.batch "j" already exists'

    @pytest.mark.parametrize(
        ("change", "code", "says"),
        [
            ({"spec": {"restartPolicy": "Always"}}, 422, '"OnFailure", "Never"'),
            ({"volumeMount": []}, 400, "'volumeMount' was unexpected"),
            ({"resources": {"limits": {"memory": "lots"}}}, 422, "quantities must match"),
            ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, 422, 'Not found: "v"'),
        ],
    )
    def test_a_job_that_kubernetes_refuses_is_refused(self, cluster, change, code, says):
        with pytest.raises(ApiException) as caught:
            add_job(cluster, "true", **change)
        assert caught.value.status == code
        assert says in json.loads(caught.value.body)["message"]

    def test_a_bad_label_is_refused(self, cluster):
        body = {"metadata": {"name": "j", "labels": {"partition": "d|e"}}}
        body["spec"] = {"template": {"spec": pod_spec("true")}}
        with pytest.raises(ApiException) as caught:
            cluster.batch.create_namespaced_job("default", body)
        assert caught.value.status == 422

    @pytest.mark.parametrize(
        ("selector", "found"),
        [
            ("app=a", {"one"}),
            ("app==a,tier=x", {"one"}),
            ("app!=a", {"two", "three"}),
            ("app in (a, b),tier", {"one"}),
            ("app in (a,b)", {"one", "two"}),
            ("app notin (a)", {"two", "three"}),
            ("!app", {"three"}),
        ],
    )
    def test_lists_are_selected_by_label(self, cluster, selector, found):
        for name, labels in (("one", {"app": "a", "tier": "x"}), ("two", {"app": "b"})):
            metadata = {"name": name, "labels": labels}
            cluster.core.create_namespaced_pod(
                "default", {"metadata": metadata, "spec": pod_spec("true")}
            )
        add_pod(cluster, "true", "three")
        pods = cluster.core.list_namespaced_pod("default", label_selector=selector).items
        assert {pod.metadata.name for pod in pods} == found

    def test_lists_are_selected_by_the_fields_that_kubernetes_has(self, cluster):
        add_pod(cluster, "true", "one")
        add_pod(cluster, "exit 1", "two")
        ended(cluster, "one")
        ended(cluster, "two")
        pods = cluster.core.list_namespaced_pod("default", field_selector="status.phase=Failed")
        assert [pod.metadata.name for pod in pods.items] == ["two"]
        with pytest.raises(ApiException, match=r"field label not supported: spec\.image") as caught:
            cluster.core.list_namespaced_pod("default", field_selector="spec.image=x")
        assert caught.value.status == 400

    def test_a_watch_starts_where_the_list_ended(self, cluster):
        add_job(cluster, "true", name="before")
        cluster.wait_job("before", "Complete")
        version = cluster.batch.list_namespaced_job("default").metadata.resource_version
        add_job(cluster, "true", name="after")
        cluster.wait_job("after", "Complete")
        names = {
            event["object"].metadata.name
            for event in kubernetes.watch.Watch().stream(
                cluster.batch.list_namespaced_job,
                "default",
                resource_version=version,
                timeout_seconds=1,
            )
        }
        assert names == {"after"}

    def test_delete_of_another_than_was_meant_is_refused(self, cluster):
        add_job(cluster, "true")
        options = kubernetes.client.V1DeleteOptions(preconditions={"uid": "other"})
        with pytest.raises(ApiException) as caught:
            cluster.batch.delete_namespaced_job("j", "default", body=options)
        assert caught.value.status == 409

    def test_labels_are_patched_and_a_template_is_not(self, cluster):
        add_job(cluster, WAITS)
        labels = {"metadata": {"labels": {"adopted": "yes"}}}
        cluster.batch.patch_namespaced_job("j", "default", labels)
        assert cluster.job("j")["metadata"]["labels"]["adopted"] == "yes"
        other = {"spec": {"template": {"spec": {"containers": []}}}}
        with pytest.raises(ApiException) as caught:
            cluster.batch.patch_namespaced_job("j", "default", other)
        assert caught.value.status == 422

    def test_a_token_may_do_what_its_role_says_and_nothing_else(self, cluster):
        rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list"]}]
        file = cluster.kubeconfig_for(rules, "runner")
        client = kubernetes.config.new_client_from_config(str(file))
        batch = kubernetes.client.BatchV1Api(client)
        assert batch.list_namespaced_job("default").items == []
        with pytest.raises(ApiException, match='cannot get resource \\\\"jobs\\\\"') as caught:
            batch.read_namespaced_job("j", "default")
        assert caught.value.status == 403
        assert cluster.batch.list_namespaced_job("default").items == []


class TestApiFaults:
    def test_a_status_is_answered_as_often_as_told_and_without_effect(self, cluster):
        cluster.fail("status", verb="create", path=JOBS, code=429, retry_after=1, times=2)
        for _ in range(2):
            with pytest.raises(ApiException) as caught:
                add_job(cluster, "true")
            assert caught.value.status == 429
            assert caught.value.headers["Retry-After"] == "1"
            assert json.loads(caught.value.body)["details"]["retryAfterSeconds"] == 1
        assert cluster.jobs() == []
        add_job(cluster, "true")
        asked = cluster.requests("create", JOBS)
        assert [each["status"] for each in asked] == [429, 429, 201]

    def test_a_fault_for_a_time_ends_with_it(self, cluster):
        cluster.fail("status", path=JOBS, code=503, for_s=0.3)
        with pytest.raises(ApiException) as caught:
            cluster.batch.list_namespaced_job("default")
        assert caught.value.status == 503
        time.sleep(0.35)
        assert cluster.batch.list_namespaced_job("default").items == []

    @pytest.mark.parametrize(("kind", "made"), [("reset", 0), ("reset_after", 1)])
    def test_a_reset_comes_before_or_after_the_effect(self, cluster, kind, made):
        cluster.fail(kind, verb="create", path=JOBS)
        with pytest.raises(urllib3.exceptions.HTTPError):
            add_job(cluster, "true")
        assert len(cluster.jobs()) == made
        (asked,) = cluster.requests("create", JOBS)
        assert asked["status"] is None

    def test_a_slow_answer_comes_late_and_a_hanging_one_never(self, cluster):
        cluster.fail("slow", verb="list", path=PODS, delay_s=0.3)
        begin = time.monotonic()
        cluster.core.list_namespaced_pod("default")
        assert time.monotonic() - begin > 0.3
        cluster.fail("hang", verb="list", path=PODS, times=None)
        with pytest.raises(urllib3.exceptions.HTTPError):
            cluster.core.list_namespaced_pod("default", _request_timeout=0.2)


class TestLogs:
    def follow(self, cluster: Cluster, name: str = "p", **query: Any) -> urllib3.HTTPResponse:
        return cluster.core.read_namespaced_pod_log(
            name, "default", follow=True, _preload_content=False, **query
        )

    def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_container(self, cluster):
        go = cluster.folder / "go"
        add_pod(cluster, f"echo one; while ! test -e {go}; do sleep 0.02; done; echo two")
        says(cluster, "one")
        stream = self.follow(cluster).stream()
        assert next(stream) == b"one\n"
        go.touch()
        assert b"".join(stream) == b"two\n"
        go.unlink()

    def test_a_log_is_cut_by_lines_and_stamped(self, cluster):
        add_pod(cluster, "for n in 1 2 3; do echo line $n; done")
        ended(cluster)
        assert cluster.log("p", tail_lines=2) == "line 2\nline 3\n"
        stamped = cluster.log("p", tail_lines=1, timestamps=True)
        at, rest = stamped.split(" ", 1)
        assert rest == "line 3\n"
        assert at.startswith("20")
        assert at.endswith("Z")
        assert cluster.log("p", limit_bytes=4) == "line"
        time.sleep(1.1)
        assert cluster.log("p", since_seconds=1) == ""

    def test_a_dropped_stream_breaks_in_the_middle_of_a_line(self, cluster):
        add_pod(cluster, f"echo 0123456789; {WAITS}")
        says(cluster, "up")
        cluster.fail_logs("drop", after_bytes=4)
        got: list[bytes] = []
        with pytest.raises(urllib3.exceptions.HTTPError):
            got.extend(self.follow(cluster).stream())
        assert b"".join(got) == b"0123"
        assert next(iter(self.follow(cluster).stream())).startswith(b"0123456789\n")

    def test_a_stream_can_end_early_as_if_at_its_end(self, cluster):
        add_pod(cluster, f"echo 0123456789; {WAITS}")
        says(cluster, "up")
        cluster.fail_logs("end", after_bytes=11)
        assert self.follow(cluster).read() == b"0123456789\n"

    def test_a_silent_stream_is_open_and_says_nothing(self, cluster):
        add_pod(cluster, "echo 0123456789")
        ended(cluster)
        cluster.fail_logs("silent", after_bytes=4, seconds=0.5)
        begin = time.monotonic()
        assert self.follow(cluster).read() == b"0123456789\n"
        assert time.monotonic() - begin > 0.5

    def test_which_container_must_be_said_where_there_are_several(self, cluster):
        second = {**container("echo b"), "name": "second"}
        body = {"metadata": {"name": "p"}, "spec": pod_spec("echo a")}
        body["spec"]["containers"].append(second)
        cluster.core.create_namespaced_pod("default", body)
        ended(cluster)
        assert cluster.log("p", container="second") == "b\n"
        with pytest.raises(ApiException, match=r"choose one of: \[main second\]"):
            cluster.log("p")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_server(tmp_path: Path, end: signal.Signals):
    with started(tmp_path, images={IMAGE: SHELL}) as cluster:
        add_pod(cluster, "echo $$$$; setsid sleep 60 & echo $!; wait")
        cluster.wait(lambda: log_so_far(cluster).count("\n") == 2)
        pids = [int(line) for line in cluster.log("p").split()]
        cluster.process.send_signal(end)
        cluster.process.wait(10)
        end_by = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end_by
            time.sleep(0.02)
