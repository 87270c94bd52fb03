"""Pods, from their making to every kind of end."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from tests.kubernetes_node.client import IMAGE, started
from tests.kubernetes_node.own_tests.conftest import SHELL
from tests.kubernetes_node.own_tests.made import (
    DEAF,
    IGNORE_DISRUPTED,
    WAITS,
    add_job,
    add_pod,
    conditions,
    ended,
    only_pod,
    pod_of,
    reasons,
    says,
    state,
    waits_for,
)


def test_a_pod_runs_to_its_end_and_tells_its_times(cluster):
    add_pod(cluster, "echo hello; echo there >&2")
    pod = ended(cluster)
    done = state(pod)["terminated"]
    assert pod["status"]["phase"] == "Succeeded"
    assert (done["exitCode"], done["reason"]) == (0, "Completed")
    assert done["startedAt"] <= done["finishedAt"]
    assert conditions(pod)["PodScheduled"]["status"] == "True"
    assert conditions(pod)["Ready"]["reason"] == "PodCompleted"
    assert cluster.log("p") == "hello\nthere\n"
    cluster.core.delete_namespaced_pod("p", "default")
    assert not cluster.pods()


def test_a_container_has_only_what_its_pod_says(cluster):
    cluster.add_secret("keys", token="s3cret", other="x")
    cluster.add_secret("more", A="from secret", B="b")

    def field(path: str) -> dict[str, Any]:
        return {"valueFrom": {"fieldRef": {"fieldPath": path}}}

    env = [
        {"name": "A", "value": "own"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "BOTH", "value": "$(A) $(TOKEN) $(NONE) $$(A)"},
        {"name": "POD", **field("metadata.name")},
        {"name": "ROLE", **field("metadata.labels['role']")},
    ]
    add_pod(
        cluster,
        "env",
        labels={"role": "worker"},
        env=env,
        envFrom=[{"secretRef": {"name": "more"}}],
    )
    assert ended(cluster)["status"]["phase"] == "Succeeded"
    seen = dict(line.split("=", 1) for line in cluster.log("p").splitlines())
    assert Path(seen.pop("HOME")).is_relative_to(cluster.folder)
    for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
        seen.pop(shells_own, None)
    assert seen == {
        "PATH": "/usr/bin:/bin",
        "HOSTNAME": "p",
        "A": "own",
        "B": "b",
        "TOKEN": "s3cret",
        "BOTH": "own s3cret $(NONE) $(A)",
        "POD": "p",
        "ROLE": "worker",
    }


def test_volumes_are_folders_at_the_mount_path(cluster):
    home, work = cluster.claims["home"], cluster.folder / "work"
    mounts = {"home": home, "scratch": str(work / "scratch"), "memory": "/dev/shm"}
    volumes = [
        {"name": "home", "persistentVolumeClaim": {"claimName": "home"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    add_pod(
        cluster,
        f"echo content > {work}/scratch/b && cp {work}/scratch/b {home}",
        spec={"volumes": volumes},
        volumeMounts=[{"name": name, "mountPath": path} for name, path in mounts.items()],
    )
    assert ended(cluster)["status"]["phase"] == "Succeeded"
    assert (Path(home) / "b").read_text() == "content\n"
    assert not (work / "scratch").exists()


def test_a_mount_path_that_cannot_be_had_is_said(cluster):
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]
    mounts = [{"name": "home", "mountPath": "/etc"}]
    add_pod(cluster, "true", spec={"volumes": volumes}, volumeMounts=mounts)
    waits_for(cluster, "CreateContainerConfigError", "mountPath /etc is there and is not")


def test_names_of_a_headless_services_pods_lead_here(cluster):
    service = {"clusterIP": "None", "selector": {"job-name": "j"}, "ports": [{"port": 29500}]}
    body = {"metadata": {"name": "group"}, "spec": service}
    cluster.core.create_namespaced_service("default", body)
    env = [{"name": "OPENCS_MASTER_ADDR", "value": "j-0.group"}]
    add_pod(cluster, "echo $OPENCS_MASTER_ADDR j-0.group", env=env)
    ended(cluster)
    assert cluster.log("p") == "127.0.0.1 127.0.0.1\n"
    cluster.core.delete_namespaced_service("group", "default")


@pytest.mark.parametrize("script", [DEAF, "echo up; exec sleep 60"], ids=["deaf", "plain"])
def test_who_does_not_handle_sigterm_is_killed_after_the_grace(cluster, script):
    # Not even a trap: the first process of a container has no default action.
    add_pod(cluster, script)
    says(cluster, "up")
    begin = time.monotonic()
    cluster.core.delete_namespaced_pod("p", "default", grace_period_seconds=1)
    deleted = pod_of(cluster)
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 1
    assert deleted["status"]["phase"] == "Running"
    cluster.wait(lambda: not cluster.pods())
    assert time.monotonic() - begin > 0.9


def test_nothing_that_a_container_started_outlives_it(cluster):
    add_pod(cluster, "setsid sleep 60 & echo up $!; sleep 0.2; exit 0")
    ended(cluster)
    with pytest.raises(ProcessLookupError):
        os.kill(int(cluster.log("p").split()[1]), 0)


@pytest.mark.parametrize(
    ("container", "code", "message"),
    [
        ({"command": ["no-such-program"]}, 128, "exec no-such-program: No such file or directory"),
        ({"command": ["sh", "-c", "echo why; exit 9"]}, 9, "why"),
    ],
)
def test_the_end_of_the_log_may_be_the_message(cluster, container, code, message):
    add_pod(cluster, "", terminationMessagePolicy="FallbackToLogsOnError", **container)
    done = state(ended(cluster))["terminated"]
    assert (done["exitCode"], done["reason"], done["message"]) == (code, "Error", f"{message}\n")


# Pods that wait.


def test_gpus_that_the_node_lacks_leave_a_pod_unschedulable_until_they_are_free(cluster):
    limits = {"limits": {"nvidia.com/gpu": "2"}}
    add_pod(cluster, WAITS, "first", resources=limits)
    says(cluster, "up", "first")
    add_pod(cluster, "true", resources=limits)
    scheduled = cluster.wait(lambda: conditions(pod_of(cluster)).get("PodScheduled"))
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    assert scheduled["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    selector = "involvedObject.name=p"
    events = cluster.core.list_namespaced_event("default", field_selector=selector).items
    assert ("Warning", "FailedScheduling") in {(event.type, event.reason) for event in events}
    cluster.core.delete_namespaced_pod("first", "default")
    assert ended(cluster)["status"]["phase"] == "Succeeded"


def test_an_unknown_image_is_pulled_in_vain_until_it_is_there(cluster):
    add_pod(cluster, "true", image="nowhere/none:1")
    waits_for(cluster, "ErrImagePull", "not found")
    waits_for(cluster, "ImagePullBackOff", 'Back-off pulling image "nowhere/none:1"')
    assert {"Failed", "BackOff"} <= reasons(cluster)
    with pytest.raises(ApiException, match="trying and failing to pull image") as caught:
        cluster.log("p")
    assert caught.value.status == 400
    cluster.configure(images={IMAGE: SHELL, "nowhere/none:1": SHELL})
    assert ended(cluster)["status"]["phase"] == "Succeeded"


def test_a_missing_secret_is_a_config_error_until_it_is_there(cluster):
    reference = {"secretKeyRef": {"name": "late", "key": "k"}}
    add_pod(cluster, "true", env=[{"name": "A", "valueFrom": reference}])
    waits_for(cluster, "CreateContainerConfigError", 'secret "late" not found')
    cluster.add_secret("late", other="x")
    waits_for(cluster, "CreateContainerConfigError", "find key k in Secret default/late")
    cluster.core.delete_namespaced_secret("late", "default")
    cluster.add_secret("late", k="x")
    assert ended(cluster)["status"]["phase"] == "Succeeded"


def test_pods_suffer_what_they_are_told_to(cluster):
    cluster.fail_pods("create_error", pod="^j-", times=1, message="no space left on device")
    add_job(cluster, "true", name="j")
    add_pod(cluster, "true", "other")
    assert ended(cluster, "other")["status"]["phase"] == "Succeeded"
    (pod,) = cluster.pods_of("j")
    waiting = cluster.wait(lambda: state(pod_of(cluster, pod["metadata"]["name"]))["waiting"])
    assert waiting == {"reason": "CreateContainerError", "message": "no space left on device"}
    cluster.clear_faults()
    cluster.wait_job("j", "Complete")


def test_an_unknown_service_account_leaves_a_job_without_pods(cluster):
    add_job(cluster, "true", spec={"serviceAccountName": "nobody"})
    cluster.wait(lambda: "FailedCreate" in reasons(cluster))
    assert cluster.pods_of("j") == []


# Pods that others end.


def test_out_of_memory_is_137_and_names_itself(cluster):
    add_job(cluster, WAITS, {"backoffLimit": 0})
    cluster.oom(only_pod(cluster))
    done = state(cluster.wait_phase("j", "Failed"))["terminated"]
    assert (done["exitCode"], done["reason"]) == (137, "OOMKilled")
    assert cluster.wait_job("j", "Failed")["reason"] == "BackoffLimitExceeded"


def test_evicted_by_the_kubelet_it_gets_sigterm_and_says_so(cluster):
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
        ("evict", "EvictionByEvictionAPI"),
        ("preempt", "PreemptionByScheduler"),
        ("lose_node", "DeletionByTaintManager"),
    ],
)
def test_a_disrupted_pod_is_replaced_and_not_counted_where_ignored(cluster, how, reason):
    job = {"backoffLimit": 0, "podFailurePolicy": {"rules": [IGNORE_DISRUPTED]}}
    add_job(cluster, DEAF, job, spec={"terminationGracePeriodSeconds": 1})
    first = only_pod(cluster)
    getattr(cluster, how)(first, **({"by": "api"} if how == "evict" else {}))
    met = cluster.wait(lambda: conditions(pod_of(cluster, first)).get("DisruptionTarget"))
    assert met["reason"] == reason
    cluster.wait(lambda: [p for p in cluster.pods_of("j") if p["metadata"]["name"] != first])
    assert cluster.job("j")["status"].get("failed", 0) == 0


def test_a_pod_that_a_person_deletes_is_counted(cluster):
    rules = {"backoffLimit": 0, "podFailurePolicy": {"rules": [IGNORE_DISRUPTED]}}
    add_job(cluster, WAITS, rules)
    cluster.core.delete_namespaced_pod(only_pod(cluster), "default")
    cluster.wait_job("j", "Failed")


def test_a_lost_node_gives_no_log(cluster):
    cluster.configure(node_loss_s=2.0)
    add_job(cluster, WAITS)
    name = only_pod(cluster)
    cluster.lose_node(name)
    cluster.configure(node_loss_s=0.15)
    with pytest.raises(ApiException) as caught:
        cluster.log(name)
    assert caught.value.status == 500
    assert pod_of(cluster, name)["status"]["phase"] == "Running"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_server(tmp_path: Path, end: signal.Signals):
    with started(tmp_path, images={IMAGE: SHELL}) as cluster:
        add_pod(cluster, "echo $$$$; setsid sleep 60 & echo $! up; wait")
        says(cluster, "up")
        pids = [int(word) for word in cluster.log("p").split() if word != "up"]
        cluster.process.send_signal(end)
        cluster.process.wait(10)
        end_by = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end_by
            time.sleep(0.02)
