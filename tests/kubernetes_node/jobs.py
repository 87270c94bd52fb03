"""The Job controller: makes Jobs' pods, counts how they end, and says when a Job is over."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes_node.config import Config
from tests.kubernetes_node.pods import Pods
from tests.kubernetes_node.store import (
    ApiError,
    Object,
    Store,
    condition,
    ended,
    has_condition,
    in_seconds,
    now,
    owner,
    random_suffix,
    set_condition,
)

BY = "job-controller"
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass
class Progress:
    """What the controller remembers of a Job."""

    counted: set[str] = field(default_factory=set)  # uids of pods whose end is counted
    failures: int = 0  # ends that were failures, ignored ones too: they set the backoff
    next_pod_at: float = 0.0


class JobController:
    """Drives all Jobs towards their end."""

    def __init__(self, store: Store, pods: Pods, config: Config) -> None:
        self._store, self._pods, self._config = store, pods, config
        self._progress: dict[str, Progress] = {}

    def sync(self) -> None:
        """Look at everything once."""
        for job in self._store.all("jobs"):
            self._sync(job)
        jobs = {job["metadata"]["uid"] for job in self._store.all("jobs")}
        for pod in self._store.all("pods"):
            reference = owner(pod)
            # A pod whose Job is gone has no one who would count its end.
            if reference is None or reference["uid"] not in jobs:
                self._release(pod)

    def _sync(self, job: Object) -> None:
        progress = self._progress.setdefault(job["metadata"]["uid"], Progress())
        before = copy.deepcopy(job)
        owned = self._owned(job)
        if "deletionTimestamp" in job["metadata"]:
            self._delete_with_pods(job, owned)
            return
        status = job["status"]
        status.setdefault("startTime", now())
        self._count(job, owned, progress)
        owned = self._owned(job)
        active = [pod for pod in owned if is_active(pod)]
        terminating = [pod for pod in owned if is_terminating(pod)]
        if not finished(job):
            self._judge(job)
            if ending(job):
                for pod in active:
                    self._pods.delete(pod)
                self._finish(job, active + terminating)
            else:
                self._make_pods(job, active, terminating, progress)
            owned = self._owned(job)
        active = [pod for pod in owned if is_active(pod)]
        show(status, "active", len(active))
        status["ready"] = sum(has_condition(pod, "Ready") for pod in active)
        status["terminating"] = sum(is_terminating(pod) for pod in owned)
        status["uncountedTerminatedPods"] = {}
        if job != before:
            self._store.touch(job)
        self._expire(job)

    def _owned(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        pods = self._store.all("pods", job["metadata"]["namespace"])
        return [pod for pod in pods if (owner(pod) or {}).get("uid") == uid]

    def _delete_with_pods(self, job: Object, owned: list[Object]) -> None:
        for pod in owned:
            self._release(pod)
            self._pods.delete(pod)
        if not self._owned(job):
            self._store.remove(job)

    def _release(self, pod: Object) -> None:
        """Let a pod go: its end is counted, or nobody counts it."""
        finalizers = pod["metadata"].get("finalizers") or []
        if TRACKING in finalizers:
            finalizers.remove(TRACKING)
            if not finalizers:
                del pod["metadata"]["finalizers"]
            self._store.touch(pod)
        self._pods.collect(pod)

    def _count(self, job: Object, owned: list[Object], progress: Progress) -> None:
        """Count pods that have ended, as the Job's policy has it."""
        spec, status = job["spec"], job["status"]
        for pod in owned:
            uid = pod["metadata"]["uid"]
            if uid in progress.counted:
                continue
            if pod["status"]["phase"] == "Succeeded":
                self._count_success(job, pod)
            elif has_failed(pod, spec):
                action, message = "Count", ""
                if pod["status"]["phase"] == "Failed":
                    action, message = policy_action(spec.get("podFailurePolicy"), pod)
                if action == "FailJob" and not finished(job):
                    self._fail(job, "PodFailurePolicy", message)
                if action != "Ignore":
                    status["failed"] = status.get("failed", 0) + 1
                progress.failures += 1
                wait = self._config.backoff_s * 2 ** (progress.failures - 1)
                progress.next_pod_at = time.monotonic() + min(wait, self._config.longest_backoff_s)
            else:
                continue
            progress.counted.add(uid)
            self._release(pod)

    def _count_success(self, job: Object, pod: Object) -> None:
        status = job["status"]
        if job["spec"]["completionMode"] == "Indexed":
            done = indexes(status.get("completedIndexes", ""))
            done.add(int(pod["metadata"]["annotations"][INDEX]))
            status["completedIndexes"] = ranges(done)
            status["succeeded"] = len(done)
        else:
            status["succeeded"] = status.get("succeeded", 0) + 1

    def _judge(self, job: Object) -> None:
        """Decide whether the Job is to end."""
        spec, status = job["spec"], job["status"]
        if ending(job):
            return
        deadline = spec.get("activeDeadlineSeconds")
        if status.get("succeeded", 0) >= spec["completions"]:
            set_condition(
                job,
                "SuccessCriteriaMet",
                reason="CompletionsReached",
                message="Reached expected number of succeeded pods",
            )
        elif deadline and time.time() >= in_seconds(status["startTime"]) + deadline:
            self._fail(job, "DeadlineExceeded", "Job was active longer than specified deadline")
        elif status.get("failed", 0) > spec["backoffLimit"]:
            self._fail(job, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _fail(self, job: Object, reason: str, message: str) -> None:
        if not has_condition(job, "FailureTarget"):
            set_condition(job, "FailureTarget", reason=reason, message=message)

    def _finish(self, job: Object, left: list[Object]) -> None:
        """Say that the Job is over, once its last pod is."""
        if any(not ended(pod) and self._store.has(pod) for pod in left):
            return
        if cause := condition(job, "FailureTarget"):
            set_condition(job, "Failed", reason=cause["reason"], message=cause["message"])
            self._store.event(job, cause["reason"], cause["message"], warning=True, by=BY)
        elif cause := condition(job, "SuccessCriteriaMet"):
            set_condition(job, "Complete", reason=cause["reason"], message=cause["message"])
            job["status"]["completionTime"] = now()
            self._store.event(job, "Completed", "Job completed", by=BY)

    def _make_pods(
        self, job: Object, active: list[Object], terminating: list[Object], progress: Progress
    ) -> None:
        spec, status = job["spec"], job["status"]
        busy = len(active)
        if spec["podReplacementPolicy"] == "Failed":
            busy += len(terminating)
        missing = spec["completions"] - status.get("succeeded", 0)
        wanted = min(spec["parallelism"], missing) - busy
        if wanted <= 0 or time.monotonic() < progress.next_pod_at:
            return
        if spec["completionMode"] == "Indexed":
            taken = indexes(status.get("completedIndexes", ""))
            held = active + (terminating if spec["podReplacementPolicy"] == "Failed" else [])
            taken |= {int(pod["metadata"]["annotations"][INDEX]) for pod in held}
            places: list[int | None] = [
                place for place in range(spec["completions"]) if place not in taken
            ]
        else:
            places = [None] * wanted
        for place_ in places[:wanted]:
            try:
                pod = self._pods.create(job["metadata"]["namespace"], pod_of(job, place_))
            except ApiError as error:
                message = f"Error creating: {error}"
                self._store.event(job, "FailedCreate", message, warning=True, by=BY)
                progress.next_pod_at = time.monotonic() + self._config.longest_backoff_s
                return
            message = f"Created pod: {pod['metadata']['name']}"
            self._store.event(job, "SuccessfulCreate", message, by=BY)

    def _expire(self, job: Object) -> None:
        """Remove a finished Job once it is older than its ``ttlSecondsAfterFinished``."""
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or not finished(job):
            return
        ends = [
            in_seconds(each["lastTransitionTime"])
            for each in job["status"]["conditions"]
            if each["type"] in ("Complete", "Failed")
        ]
        if time.time() >= max(ends) + ttl:
            self._store.remove(job)


def show(status: Object, name: str, number: int) -> None:
    """Set a number that Kubernetes leaves out where it is zero."""
    if number:
        status[name] = number
    else:
        status.pop(name, None)


def finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def ending(job: Object) -> bool:
    """Whether it is decided how a Job ends."""
    return has_condition(job, "FailureTarget") or has_condition(job, "SuccessCriteriaMet")


def is_active(pod: Object) -> bool:
    return not ended(pod) and "deletionTimestamp" not in pod["metadata"]


def is_terminating(pod: Object) -> bool:
    return not ended(pod) and "deletionTimestamp" in pod["metadata"]


def has_failed(pod: Object, spec: Mapping[str, Any]) -> bool:
    """Whether a pod counts as failed: where pods are replaced at once, a deleted one does."""
    if pod["status"]["phase"] == "Failed":
        return True
    if spec["podReplacementPolicy"] == "Failed":
        return False
    return is_terminating(pod)


def policy_action(policy: Mapping[str, Any] | None, pod: Object) -> tuple[str, str]:
    """What a pod failure policy says of a failed pod: the action, and why where it fails the Job.

    Rules are tried in order and the first that matches decides; ``Count`` where none does.
    """
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for index, rule in enumerate((policy or {}).get("rules") or []):
        action = rule["action"]
        if codes := rule.get("onExitCodes"):
            for status in ended_containers(pod):
                code = status["state"]["terminated"]["exitCode"]
                if codes.get("containerName", status["name"]) != status["name"] or code == 0:
                    continue
                if (code in codes["values"]) == (codes["operator"] == "In"):
                    return action, (
                        f"Container {status['name']} for pod {name} failed with exit code "
                        f"{code} matching {action} rule at index {index}"
                    )
        for wanted in rule.get("onPodConditions") or []:
            for each in pod["status"].get("conditions") or []:
                if each["type"] == wanted["type"] and each["status"] == wanted.get(
                    "status", "True"
                ):
                    return action, (
                        f"Pod {name} has condition {each['type']} matching {action} rule at "
                        f"index {index}"
                    )
    return "Count", ""


def ended_containers(pod: Object) -> list[Object]:
    statuses = pod["status"].get("containerStatuses") or []
    return [each for each in statuses if "terminated" in each["state"]]


def pod_of(job: Object, index: int | None) -> Object:
    """A pod of a Job, by its template."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    template = copy.deepcopy(job["spec"]["template"])
    metadata, spec = template.get("metadata") or {}, template["spec"]
    metadata.pop("name", None)
    stem = name if index is None else f"{name}-{index}"
    metadata["name"] = f"{stem[:57]}-{random_suffix()}"
    metadata["namespace"] = namespace
    metadata["finalizers"] = [*(metadata.get("finalizers") or []), TRACKING]
    metadata["ownerReferences"] = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    if index is not None:
        metadata.setdefault("labels", {})[INDEX] = str(index)
        metadata.setdefault("annotations", {})[INDEX] = str(index)
        spec.setdefault("hostname", f"{name}-{index}")
        reference = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
        variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": reference}
        for container in spec["containers"]:
            container["env"] = [*(container.get("env") or []), variable]
    return {"metadata": metadata, "spec": spec}


def indexes(text: str) -> set[int]:
    """Completed indexes from their short form, ``0,2-4``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def ranges(found: set[int]) -> str:
    """The short form of completed indexes."""
    parts: list[list[int]] = []
    for number in sorted(found):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
