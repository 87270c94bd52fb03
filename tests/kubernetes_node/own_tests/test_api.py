"""The API through the real client: answers, refusals, rights, logs, and what is told to fail."""

import json
import time
from typing import Any

import kubernetes
import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from tests.kubernetes_node.client import JOBS, PODS, Cluster
from tests.kubernetes_node.own_tests.made import WAITS, add_job, add_pod, ended, pod_spec, says


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal."""
    with pytest.raises(ApiException) as caught:
        call(*arguments, **options)
    return caught.value.status, json.loads(caught.value.body)


def test_what_is_not_there_is_a_status_of_404(cluster):
    status, body = refused(cluster.batch.read_namespaced_job, "none", "default")
    assert status == 404
    assert body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'jobs.batch "none" not found',
        "reason": "NotFound",
        "details": {"name": "none", "group": "batch", "kind": "jobs"},
        "code": 404,
    }


def test_a_taken_name_is_a_status_of_409(cluster):
    add_job(cluster, "true")
    status, body = refused(add_job, cluster, "false")
    assert (status, body["reason"]) == (409, "AlreadyExists")
    assert body["message"] == 'jobs.batch "j" already exists'


POLICY = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 1]}}


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"spec": {"restartPolicy": "Always"}}, 422, '"OnFailure", "Never"'),
        ({"spec": {"restartPolicy": "OnFailure"}}, 501, "started again"),
        ({"spec": {"activeDeadlineSeconds": 5}}, 501, "activeDeadlineSeconds"),
        ({"volumeMount": []}, 400, "'volumeMount' was unexpected"),
        ({"resources": {"limits": {"memory": "lots"}}}, 422, "quantities must match"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, 422, 'Not found: "v"'),
        ({"job": {"podFailurePolicy": {"rules": [POLICY]}}}, 422, "must be ordered"),
        ({"job": {"suspend": True}}, 501, "suspend"),
        ({"metadata": {"labels": {"partition": "d|e"}}}, 422, "must be a valid label value"),
        ({"metadata": {"name": "Job"}}, 422, "RFC 1123"),
    ],
)
def test_a_job_that_kubernetes_refuses_or_that_is_not_built_is_refused(cluster, change, code, says):
    status, body = refused(add_job, cluster, "true", **change)
    assert status == code
    assert says in body["message"]


def test_lists_are_selected_by_label_and_field(cluster):
    add_pod(cluster, "true", "one", labels={"app": "a", "tier": "x"})
    add_pod(cluster, "exit 1", "two", labels={"app": "a"})
    for name in ("one", "two"):
        ended(cluster, name)

    def names(**selector: str) -> list[str]:
        pods = cluster.core.list_namespaced_pod("default", **selector).items
        return [pod.metadata.name for pod in pods]

    assert names(label_selector="app=a") == ["one", "two"]
    assert names(label_selector="app=a,tier=x") == ["one"]
    assert names(field_selector="status.phase=Failed") == ["two"]
    assert names(field_selector="metadata.name=one") == ["one"]
    for selector in ({"label_selector": "app!=a"}, {"field_selector": "spec.nodeName=x"}):
        assert refused(cluster.core.list_namespaced_pod, "default", **selector)[0] == 501


def test_delete_of_another_than_was_meant_is_refused(cluster):
    add_job(cluster, "true")
    options = kubernetes.client.V1DeleteOptions(preconditions={"uid": "other"})
    assert refused(cluster.batch.delete_namespaced_job, "j", "default", body=options)[0] == 409


def test_another_namespace_is_not_there(cluster):
    body = {"metadata": {"name": "p"}, "spec": pod_spec("true")}
    status, told = refused(cluster.core.create_namespaced_pod, "elsewhere", body)
    assert (status, told["message"]) == (404, 'namespaces "elsewhere" not found')


def test_a_token_may_do_what_its_role_says_and_nothing_else(cluster):
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list"]}]
    file = cluster.kubeconfig_for(rules, "runner")
    batch = kubernetes.client.BatchV1Api(kubernetes.config.new_client_from_config(str(file)))
    assert batch.list_namespaced_job("default").items == []
    status, body = refused(batch.read_namespaced_job, "j", "default")
    assert status == 403
    assert 'cannot get resource "jobs"' in body["message"]
    assert cluster.batch.list_namespaced_job("default").items == []


# What is told to fail.


def test_a_status_is_answered_as_often_as_told_and_without_effect(cluster):
    cluster.fail("status", verb="create", path=JOBS, code=429, retry_after=1, times=2)
    for _ in range(2):
        with pytest.raises(ApiException) as caught:
            add_job(cluster, "true")
        assert caught.value.status == 429
        assert caught.value.headers["Retry-After"] == "1"
        assert json.loads(caught.value.body)["details"]["retryAfterSeconds"] == 1
    assert cluster.jobs() == []
    add_job(cluster, "true")
    assert [each["status"] for each in cluster.requests("create", JOBS)] == [429, 429, 201]


@pytest.mark.parametrize(("kind", "made"), [("reset", 0), ("reset_after", 1)])
def test_a_reset_comes_before_or_after_the_effect(cluster, kind, made):
    cluster.fail(kind, verb="create", path=JOBS)
    with pytest.raises(urllib3.exceptions.HTTPError):
        add_job(cluster, "true")
    assert len(cluster.jobs()) == made
    (asked,) = cluster.requests("create", JOBS)
    assert asked["status"] is None


def test_a_hanging_answer_never_comes(cluster):
    cluster.fail("hang", verb="list", path=PODS, times=None)
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.core.list_namespaced_pod("default", _request_timeout=0.2)


# Logs.


def follow(cluster: Cluster) -> urllib3.HTTPResponse:
    return cluster.core.read_namespaced_pod_log("p", "default", follow=True, _preload_content=False)


def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_container(cluster):
    go = cluster.folder / "go"
    add_pod(cluster, f"echo one; while ! test -e {go}; do sleep 0.02; done; echo two")
    says(cluster, "one")
    stream = follow(cluster).stream()
    assert next(stream) == b"one\n"
    go.touch()
    assert b"".join(stream) == b"two\n"
    go.unlink()


def test_a_log_is_cut_by_lines_and_time_and_stamped(cluster):
    add_pod(cluster, "for n in 1 2 3; do echo line $n; done")
    ended(cluster)
    assert cluster.log("p", tail_lines=2) == "line 2\nline 3\n"
    at, rest = cluster.log("p", tail_lines=1, timestamps=True).split(" ", 1)
    assert rest == "line 3\n"
    assert at.startswith("20")
    assert at.endswith("Z")
    time.sleep(1.1)
    assert cluster.log("p", since_seconds=1) == ""


def test_a_stream_can_break_in_the_middle_of_a_line_or_end_early(cluster):
    add_pod(cluster, f"echo 0123456789; {WAITS}")
    says(cluster, "up")
    cluster.fail_logs("drop", after_bytes=4)
    got: list[bytes] = []
    with pytest.raises(urllib3.exceptions.HTTPError):
        got.extend(follow(cluster).stream())
    assert b"".join(got) == b"0123"
    cluster.fail_logs("end", after_bytes=11)
    assert follow(cluster).read() == b"0123456789\n"
    assert next(iter(follow(cluster).stream())).startswith(b"0123456789\n")


def test_a_silent_stream_is_open_and_says_nothing(cluster):
    add_pod(cluster, "echo 0123456789")
    ended(cluster)
    cluster.fail_logs("silent", after_bytes=4, seconds=0.5)
    begin = time.monotonic()
    assert follow(cluster).read() == b"0123456789\n"
    assert time.monotonic() - begin > 0.5
