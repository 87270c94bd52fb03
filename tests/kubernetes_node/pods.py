"""How pods are made, deleted, disrupted, and taken away once nobody holds them."""

import copy
from typing import Protocol

from tests.kubernetes_node.admission import admit_pod
from tests.kubernetes_node.store import Object, Store, ended, now, set_condition


class Node(Protocol):
    """What runs pods, and is told when one is to end."""

    def terminate(self, pod: Object, grace_s: float) -> None:
        """End a pod's containers within a grace."""


class Pods:
    """Makes pods and takes them away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.node: Node | None = None

    def create(self, namespace: str, pod: Object) -> Object:
        """Make a pod for a controller; an ``ApiError`` where it is refused."""
        pod = copy.deepcopy(pod)
        admit_pod(self._store, namespace, pod)
        return self._store.create("pods", namespace, pod)

    def delete(self, pod: Object, grace_s: int | None = None) -> None:
        """Delete a pod: its containers end first, unless there is nothing to wait for.

        The grace is what the pod's spec says unless it is given.
        """
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        on_node = bool(spec.get("nodeName"))
        grace = spec["terminationGracePeriodSeconds"] if grace_s is None else grace_s
        if not on_node or ended(pod):
            grace = 0
        if "deletionTimestamp" in metadata and grace >= metadata["deletionGracePeriodSeconds"]:
            self.collect(pod)
            return
        metadata["deletionTimestamp"] = now()
        metadata["deletionGracePeriodSeconds"] = grace
        if not on_node and not ended(pod):
            status["phase"] = "Failed"
        self._store.touch(pod)
        if on_node and self.node is not None:
            self.node.terminate(pod, grace)
        if grace == 0 and not metadata.get("finalizers"):
            self._store.remove(pod)

    def collect(self, pod: Object) -> None:
        """Remove a deleted pod once it has ended and nobody holds it."""
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata and ended(pod) and not metadata.get("finalizers"):
            self._store.remove(pod)

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        """Mark a pod as about to end for a reason that is not its own."""
        set_condition(pod, "DisruptionTarget", reason=reason, message=message)
        self._store.touch(pod)
