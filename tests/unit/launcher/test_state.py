"""What is read of a Job and its pods: how each stands, why it failed, what waits in vain."""

from typing import Any

import pytest

from resources.launcher.kubernetes import state
from resources.launcher.kubernetes.state import Patience
from resources.settings import KubernetesLauncher

LAUNCHER = KubernetesLauncher.model_validate(
    {
        "image": f"registry.example.com/opencs/trainer@sha256:{'ab' * 32}",
        "home_claim": "home",
        "schedule_within_s": 10,
        "start_within_s": 20,
        "grace_s": 30,
        "memory": "8Gi",
    }
)
LEAVING = {"deletionTimestamp": "2030-01-01T00:00:00Z"}


def job(*conditions: str, reason: str = "", **metadata: Any) -> dict[str, Any]:
    status = [{"type": kind, "status": "True", "reason": reason} for kind in conditions]
    return {"metadata": {"name": "j", **metadata}, "status": {"conditions": status}}


def pod(
    container: dict[str, Any] | None = None,
    conditions: dict[str, str] | None = None,
    *,
    uid: str = "u",
    metadata: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    status["conditions"] = [
        {"type": kind, "status": "True", "reason": reason}
        for kind, reason in (conditions or {}).items()
    ]
    if container:
        status["containerStatuses"] = [
            {"name": "sidecar", "state": {"running": {}}},
            {"name": "training", "state": container},
        ]
    return {"metadata": {"name": f"pod-{uid}", "uid": uid, **(metadata or {})}, "status": status}


def exited(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return pod({"terminated": {"exitCode": code, "reason": reason}}, phase="Failed", **more)


@pytest.mark.parametrize(
    ("seen", "stands"),
    [
        (job(), "runs"),
        (job("Complete"), "complete"),
        (job("Failed"), "failed"),
        (job("Complete", **LEAVING), "leaving"),
        (
            {"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "False"}]}},
            "runs",
        ),
    ],
)
def test_how_a_job_stands(seen, stands):
    assert state.state_of(seen) == stands


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (pod(conditions={"DisruptionTarget": "Preempted"}), "was taken away (Preempted)"),
        (exited(75), "was told to stop"),
        (pod(metadata=LEAVING), "was told to stop"),
        (exited(1), None),
        (pod(phase="Running"), None),
    ],
)
def test_why_a_pod_was_lost(seen, why):
    assert state.lost(seen) == why


ERROR = ("ValueError: bad number", False)
FINAL = ("the folder is full", True)


@pytest.mark.parametrize(
    ("pods", "error", "says", "final", "interrupted"),
    [
        ([exited(137, "OOMKilled")], FINAL, "out of memory: its pod was killed at", True, 0),
        ([pod(phase="Failed", reason="Evicted")], None, "its pod was evicted", True, 0),
        ([exited(1)], ERROR, "ValueError: bad number", False, 0),
        ([exited(2)], FINAL, "the folder is full", True, 0),
        # What was reported before a kill is not why it was killed.
        ([exited(137)], FINAL, "killed by SIGKILL", False, 0),
        ([exited(137, metadata=LEAVING)], None, "killed by SIGKILL", False, 1),
        ([pod(metadata=LEAVING)], None, "its pod was deleted and had to be killed", False, 1),
        ([exited(139)], None, "its pod ended with exit status 139: the last line", False, 0),
        # The last one that failed counts, not one that is whole.
        ([exited(137, "OOMKilled"), exited(3)], None, "its pod ended with exit status 3", False, 0),
        ([exited(3), pod(phase="Running")], None, "its pod ended with exit status 3", False, 0),
        ([], None, "its Job failed: no reason given", False, 0),
    ],
)
def test_why_a_job_failed(pods, error, says, final, interrupted):
    found = state.why_failed(job("Failed"), pods, error, lambda _: "the last line", LAUNCHER)
    assert found.text.startswith(says)
    assert (found.final, found.interrupted) == (final, bool(interrupted))


def test_a_deadline_comes_before_what_else_a_pod_says():
    over = job("Failed", reason="DeadlineExceeded")
    found = state.why_failed(over, [exited(2)], FINAL, lambda _: None, LAUNCHER)
    assert found.text.startswith("it did not end within")
    assert found.final


SCHEDULED = {"PodScheduled": ""}


def waiting(reason: str) -> dict[str, Any]:
    return pod({"waiting": {"reason": reason, "message": "why"}}, SCHEDULED, phase="Pending")


@pytest.mark.parametrize(
    ("pods", "limit_s", "says", "final"),
    [
        ([], 10, "no pod was made for it within 10 s: a warning", False),
        ([pod(phase="Pending")], 10, "no node took its pod within 10 s; free or add GPUs", False),
        (
            [pod(None, SCHEDULED, phase="Pending")],
            20,
            "its pod has a node but did not start",
            False,
        ),
        ([waiting("ErrImagePull")], 0, "its image can't be pulled (ErrImagePull): why", True),
        ([waiting("RunContainerError")], 0, "its container can't be created", True),
        ([waiting("ContainerCreating")], 20, "its pod has a node but did not start", False),
    ],
)
def test_a_wait_is_in_vain_exactly_at_its_limit(pods, limit_s, says, final):
    patience = Patience(LAUNCHER)

    def at(now: float) -> Any:
        return patience.exhausted(job(), pods, 100.0 + now, lambda _: ["older", "a warning"])

    if limit_s:
        assert at(0) is None
        assert at(limit_s - 0.1) is None
    found = at(limit_s)
    assert found.text.startswith(says)
    assert found.final is final


def test_a_wait_is_over_where_the_pod_runs_leaves_or_was_made_meanwhile():
    patience = Patience(LAUNCHER)
    runs, leaves = pod(phase="Running"), pod(phase="Pending", metadata=LEAVING)
    for now, pods in enumerate(([], [runs], [], [leaves], [runs, leaves])):
        assert patience.exhausted(job(), pods, now * 9.0, lambda _: []) is None
    assert patience.exhausted(job("Failed"), [], 1000.0, lambda _: []) is None


def test_a_pod_that_does_not_end_is_named_once_after_its_grace():
    patience = Patience(LAUNCHER)
    pods = [pod(metadata=LEAVING, uid="a"), pod(uid="b")]
    limit = LAUNCHER.grace_s + state.STUCK_S
    assert [patience.stuck(pods, now) for now in (0.0, limit - 1, limit, limit + 1)] == [
        [],
        [],
        ["pod-a"],
        [],
    ]
