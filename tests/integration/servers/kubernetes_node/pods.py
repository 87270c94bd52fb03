"""Pods as the API server treats them: defaults when they are made, and how they are taken away."""

import copy
import re
from typing import Any, Protocol

from .store import (
    KINDS,
    ApiError,
    Object,
    Store,
    details_of,
    invalid,
    now,
    random_suffix,
    set_condition,
)

GRACE_S = 30
QUANTITY = re.compile(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?")
UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)
}


class Node(Protocol):
    """What runs pods, and is told when one is to end."""

    def terminate(self, pod: Object, grace_s: float) -> None:
        """End a pod's containers within a grace."""


def quantity(text: Any) -> float:
    """A resource's amount as a number.

    Raises:
        ValueError: It is not a quantity.
    """
    match = QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    unit = match[2] or ""
    if unit[:1] in ("e", "E") and len(unit) > 1:
        return float(match[1] + unit)
    return float(match[1]) * (1e18 if unit == "E" else UNITS.get(unit, 1.0))


def check_pod_spec(where: str, kind: str, name: str, spec: Object) -> None:
    """Refuse what Kubernetes refuses beyond the types of fields.

    Raises:
        ApiError: Invalid (422), or not built here (501).
    """
    of = KINDS[kind]
    if not spec.get("containers"):
        raise invalid(of, name, f"{where}.containers", "Required value")
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    names = [container.get("name") for container in containers]
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for place, container in enumerate(containers):
        at = f"{where}.containers[{place}]"
        if not container.get("image"):
            raise invalid(of, name, f"{at}.image", "Required value")
        if names.count(container["name"]) > 1:
            raise invalid(of, name, f"{at}.name", f'Duplicate value: "{container["name"]}"')
        if container.get("restartPolicy"):
            raise ApiError(501, "NotImplemented", "the tests' cluster has no sidecar containers")
        _check_resources(of, name, at, container.get("resources") or {})
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                raise invalid(of, name, f"{at}.volumeMounts", f'name: Not found: "{mount["name"]}"')
        for variable in container.get("env") or []:
            if variable.get("value") and variable.get("valueFrom"):
                why = "may not be specified when `value` is not empty"
                raise invalid(of, name, f"{at}.env[{variable['name']}].valueFrom", why)


def _check_resources(of: Any, name: str, at: str, resources: Object) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for which, amounts in (("limits", limits), ("requests", requests)):
        for resource, amount in amounts.items():
            try:
                quantity(amount)
            except ValueError as error:
                raise invalid(of, name, f"{at}.resources.{which}[{resource}]", str(error)) from None
    for resource, amount in requests.items():
        if resource in limits and quantity(amount) > quantity(limits[resource]):
            why = f'Invalid value: "{amount}": must be less than or equal to {resource} limit'
            raise invalid(of, name, f"{at}.resources.requests", why)
    for resource in set(limits) | set(requests):
        if "/" in resource and requests.get(resource, limits.get(resource)) != limits.get(resource):
            why = f"must be equal to {resource} limit"
            raise invalid(of, name, f"{at}.resources.requests", why)


class Pods:
    """Makes pods and takes them away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.node: Node | None = None

    def create(self, namespace: str, pod: Object) -> Object:
        """Admit a pod: its defaults, and what must be there.

        Raises:
            ApiError: It is refused.
        """
        pod = copy.deepcopy(pod)
        metadata, spec = pod["metadata"], pod["spec"]
        if not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        name = metadata["name"]
        check_pod_spec("spec", "pods", name, spec)
        account = spec.setdefault("serviceAccountName", "default") or "default"
        spec["serviceAccountName"] = account
        if self._store.find("serviceaccounts", namespace, account) is None:
            raise ApiError(
                403,
                "Forbidden",
                f'pods "{name}" is forbidden: error looking up service account '
                f'{namespace}/{account}: serviceaccount "{account}" not found',
                details_of(KINDS["pods"], name),
            )
        for key, value in (
            ("restartPolicy", "Always"),
            ("terminationGracePeriodSeconds", GRACE_S),
            ("dnsPolicy", "ClusterFirst"),
            ("schedulerName", "default-scheduler"),
            ("enableServiceLinks", True),
            ("securityContext", {}),
        ):
            if spec.get(key) is None:
                spec[key] = value
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            latest = container["image"].endswith(":latest") or ":" not in container["image"]
            container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
            container.setdefault("terminationMessagePath", "/dev/termination-log")
            container.setdefault("terminationMessagePolicy", "File")
            container.setdefault("resources", {})
            resources = container["resources"] = container["resources"] or {}
            if resources.get("limits"):
                resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
        pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        return self._store.create("pods", namespace, pod)

    def delete(self, pod: Object, grace_s: int | None = None) -> None:
        """Delete a pod: its containers end first, unless there is nothing to wait for.

        Args:
            pod: The pod.
            grace_s: Seconds that it is given; unset: what its spec says.
        """
        metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
        ended = status["phase"] in ("Succeeded", "Failed")
        grace = spec["terminationGracePeriodSeconds"] if grace_s is None else grace_s
        if not spec.get("nodeName") or ended:
            grace = 0
        if "deletionTimestamp" in metadata and grace >= metadata["deletionGracePeriodSeconds"]:
            self.collect(pod)
            return
        metadata["deletionTimestamp"] = now()
        metadata["deletionGracePeriodSeconds"] = grace
        if not spec.get("nodeName") and not ended:
            status["phase"] = "Failed"
        self._store.touch(pod)
        if spec.get("nodeName") and self.node is not None:
            self.node.terminate(pod, grace)
        if grace == 0 and not metadata.get("finalizers"):
            self._store.remove(pod)

    def collect(self, pod: Object) -> None:
        """Remove a deleted pod once it has ended and nobody holds it."""
        metadata = pod["metadata"]
        ended = pod["status"]["phase"] in ("Succeeded", "Failed")
        if "deletionTimestamp" in metadata and ended and not metadata.get("finalizers"):
            self._store.remove(pod)

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        """Mark a pod as about to end for a reason that is not its own."""
        set_condition(pod, "DisruptionTarget", reason=reason, message=message)
        self._store.touch(pod)
