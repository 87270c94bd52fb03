"""Jobs: how they make pods, count their ends, and end themselves."""

import pytest

from tests.kubernetes_node.own_tests.made import (
    DEAF,
    IGNORE_DISRUPTED,
    WAITS,
    add_job,
    add_pod,
    conditions,
    only_pod,
    pod_of,
    says,
)


def test_a_job_makes_a_pod_of_its_own_and_completes(cluster):
    add_job(cluster, "true")
    cluster.wait_job("j", "Complete")
    job = cluster.batch.read_namespaced_job_status("j", "default")
    assert (job.status.succeeded, job.status.failed, job.status.active) == (1, None, None)
    assert job.status.start_time <= job.status.completion_time
    (pod,) = cluster.core.list_namespaced_pod("default", label_selector="job-name=j").items
    (owner,) = pod.metadata.owner_references
    assert (owner.kind, owner.uid, owner.controller) == ("Job", job.metadata.uid, True)
    assert pod.metadata.labels["batch.kubernetes.io/job-name"] == "j"
    assert pod.metadata.labels["batch.kubernetes.io/controller-uid"] == job.metadata.uid
    assert not pod.metadata.finalizers


def test_all_indexes_complete_each_with_its_own(cluster):
    script = (
        "test $JOB_COMPLETION_INDEX = 1 && ! test -e $HOME/../../again && exit 1; "
        "echo $HOSTNAME $JOB_COMPLETION_INDEX"
    )
    job = {"completionMode": "Indexed", "completions": 3, "parallelism": 2, "backoffLimit": 9}
    add_job(cluster, script, job)
    cluster.wait(lambda: cluster.job("j")["status"].get("failed"))
    mark = cluster.folder / "cluster" / "pods" / "again"
    mark.touch()
    cluster.wait_job("j", "Complete")
    mark.unlink()
    status = cluster.job("j")["status"]
    assert (status["completedIndexes"], status["succeeded"]) == ("0-2", 3)
    done = [pod for pod in cluster.pods_of("j") if pod["status"]["phase"] == "Succeeded"]
    said = {cluster.log(pod["metadata"]["name"]) for pod in done}
    assert said == {"j-0 0\n", "j-1 1\n", "j-2 2\n"}


@pytest.mark.parametrize(
    ("code", "action", "operator", "values", "counted", "reason"),
    [
        (1, None, "", [], 3, "BackoffLimitExceeded"),
        (2, "FailJob", "In", [2], 1, "PodFailurePolicy"),
        (3, "FailJob", "NotIn", [2], 1, "PodFailurePolicy"),
        (75, "Count", "In", [75], 3, "BackoffLimitExceeded"),
        (1, "FailJob", "In", [2], 3, "BackoffLimitExceeded"),
    ],
)
def test_exit_codes_decide_as_the_policy_says(
    cluster, code, action, operator, values, counted, reason
):
    rule = {"action": action, "onExitCodes": {"operator": operator, "values": values}}
    policy = {"podFailurePolicy": {"rules": [rule]}} if action else {}
    add_job(cluster, f"exit {code}", {"backoffLimit": 2, **policy})
    failed = cluster.wait_job("j", "Failed")
    job, pods = cluster.job("j"), cluster.pods_of("j")
    assert job["status"]["failed"] == len(pods) == counted
    assert conditions(job)["FailureTarget"]["reason"] == failed["reason"] == reason
    message = "Job has reached the specified backoff limit"
    if reason == "PodFailurePolicy":
        message = (
            f"Container main for pod default/{pods[0]['metadata']['name']} failed with exit code "
            f"{code} matching FailJob rule at index 0"
        )
    assert failed["message"] == message


def test_an_ignored_exit_is_neither_counted_nor_the_end(cluster):
    rule = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}
    add_job(cluster, "exit 75", {"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}})
    cluster.wait(lambda: len(cluster.pods_of("j")) >= 3)
    assert "failed" not in cluster.job("j")["status"]


def test_the_first_rule_that_matches_decides(cluster):
    fail = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [75]}}
    policy = {"podFailurePolicy": {"rules": [IGNORE_DISRUPTED, fail]}}
    add_job(cluster, WAITS, {"backoffLimit": 0, **policy})
    cluster.evict(only_pod(cluster))
    cluster.wait(lambda: len(cluster.pods_of("j")) == 2)
    assert not cluster.job("j")["status"].get("conditions")


def test_with_a_policy_a_pod_is_replaced_only_once_it_has_ended(cluster):
    add_job(cluster, DEAF, {"podFailurePolicy": {"rules": [IGNORE_DISRUPTED]}}, name="after")
    add_job(cluster, DEAF, name="at-once")
    for name in ("after", "at-once"):
        pod = only_pod(cluster, name)
        cluster.core.delete_namespaced_pod(pod, "default", grace_period_seconds=2)
    cluster.wait(lambda: len(cluster.pods_of("at-once")) == 2)
    assert len(cluster.pods_of("after")) == 1
    assert cluster.job("after")["status"]["terminating"] == 1
    cluster.wait(lambda: cluster.job("after")["status"].get("active"))


def test_a_job_over_its_deadline_fails_and_ends_its_pods(cluster):
    add_job(cluster, WAITS, {"activeDeadlineSeconds": 1})
    assert cluster.wait_job("j", "Failed")["reason"] == "DeadlineExceeded"
    cluster.wait(lambda: not cluster.pods_of("j"))


def test_a_finished_job_is_removed_after_its_time(cluster):
    add_job(cluster, "true", {"ttlSecondsAfterFinished": 1})
    cluster.wait_job("j", "Complete")
    cluster.wait(lambda: not cluster.jobs() and not cluster.pods())


def test_deleting_a_job_leaves_its_pods_unless_told_otherwise(cluster):
    for how in (None, "Background", "Foreground"):
        name = str(how).lower()
        add_job(cluster, WAITS, name=name)
        only_pod(cluster, name)
        cluster.batch.delete_namespaced_job(name, "default", propagation_policy=how)
    there = {job["metadata"]["name"] for job in cluster.jobs()}
    assert there <= {"foreground"}
    cluster.wait(lambda: not cluster.jobs())
    assert not cluster.pods_of("foreground")
    cluster.wait(lambda: not cluster.pods_of("background"))
    (kept,) = cluster.pods_of("none")
    assert kept["status"]["phase"] == "Running"
    assert not kept["metadata"].get("ownerReferences")


def test_an_owned_job_goes_with_its_owner(cluster):
    add_pod(cluster, WAITS)
    says(cluster, "up")
    uid = pod_of(cluster)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}
    add_job(cluster, WAITS, metadata={"ownerReferences": [owner]})
    only_pod(cluster)
    cluster.core.delete_namespaced_pod("p", "default")
    cluster.wait(lambda: not cluster.jobs() and not cluster.pods())
