"""Pods and Jobs of a shell script, and what is read of them."""

import contextlib
from typing import Any

from kubernetes.client.exceptions import ApiException

from tests.kubernetes_node.client import IMAGE, Cluster

WAITS = "trap 'exit 75' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"
IGNORE_DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}


def pod_spec(script: str, spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    main = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **container}
    return {"restartPolicy": "Never", "containers": [main], **(spec or {})}


def add_pod(cluster: Cluster, script: str, name: str = "p", **more: Any) -> None:
    labels = more.pop("labels", {})
    metadata = {"name": name, "labels": labels}
    cluster.core.create_namespaced_pod(
        "default", {"metadata": metadata, "spec": pod_spec(script, **more)}
    )


def add_job(
    cluster: Cluster,
    script: str,
    job: dict[str, Any] | None = None,
    name: str = "j",
    metadata: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    spec = {"template": {"spec": pod_spec(script, **more)}, **(job or {})}
    cluster.batch.create_namespaced_job(
        "default", {"metadata": {"name": name, **(metadata or {})}, "spec": spec}
    )


def pod_of(cluster: Cluster, name: str = "p") -> dict[str, Any]:
    return next(pod for pod in cluster.pods() if pod["metadata"]["name"] == name)


def state(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["status"]["containerStatuses"][0]["state"]


def waits_for(cluster: Cluster, reason: str, message: str) -> None:
    """Wait until the pod's container waits for this reason, with this in its message."""

    def met() -> bool:
        statuses = pod_of(cluster)["status"].get("containerStatuses") or []
        waiting = [each["state"].get("waiting", {}) for each in statuses]
        return any(
            each.get("reason") == reason and message in each.get("message", "") for each in waiting
        )

    cluster.wait(met)


def ended(cluster: Cluster, name: str = "p") -> dict[str, Any]:
    """Wait until a pod has ended; returns it."""
    cluster.wait(lambda: pod_of(cluster, name)["status"]["phase"] in ("Succeeded", "Failed"))
    return pod_of(cluster, name)


def says(cluster: Cluster, text: str, name: str = "p") -> str:
    """Wait until a pod has written something; returns its name."""

    def met() -> bool:
        with contextlib.suppress(ApiException):
            return text in cluster.log(name)
        return False

    cluster.wait(met)
    return name


def only_pod(cluster: Cluster, job: str = "j") -> str:
    """Wait until a Job's pod has said ``up``; returns its name."""
    return says(cluster, "up", cluster.wait_phase(job, "Running")["metadata"]["name"])


def conditions(thing: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in thing["status"].get("conditions") or []}


def reasons(cluster: Cluster) -> set[str]:
    return {event["reason"] for event in cluster.events()}
