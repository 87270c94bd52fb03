"""What a Job and its pods say: whether it is over, why it failed, and why it does not start.

The functions are pure: objects in, words out. Waits are measured by the clock of this machine,
since the cluster's clock is another one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resources.launcher.job import EXIT_STOPPED
from resources.launcher.kubernetes.spec import CONTAINER, EXIT_KILLED
from resources.launcher.protocol import State, Trouble
from resources.settings import KubernetesLauncher

Object = Mapping[str, Any]

# Reasons of a waiting container whose image can't be had, which no waiting mends.
NO_IMAGE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
}
# Seconds beyond its grace after which a pod that does not end is on a node that is gone.
STUCK_S = 300.0
NO_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


def condition(item: Object, kind: str) -> Object | None:
    """The condition of a kind that holds for a Job or a pod."""
    met = _condition(item, kind)
    return met if met and met["status"] == "True" else None


def _condition(item: Object, kind: str) -> Object | None:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), None)


def state_of(job: Object) -> State:
    """How a Job stands."""
    if leaving(job):
        return "leaving"
    if condition(job, "Complete"):
        return "complete"
    return "failed" if condition(job, "Failed") else "runs"


def leaving(item: Object) -> bool:
    """Whether an object is being deleted."""
    return bool(item["metadata"].get("deletionTimestamp"))


def phase(pod: Object) -> str:
    """A pod's phase."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def container(pod: Object) -> Object:
    """State of the pod's container; empty before it has one."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next(
        (status.get("state") or {} for status in statuses if status["name"] == CONTAINER), {}
    )


def ended(pod: Object) -> Object | None:
    """How the pod's container ended: ``exitCode``, ``reason``."""
    return container(pod).get("terminated")


def lost(pod: Object) -> str | None:
    """Why a pod was taken from its Job, if it was."""
    disruption = condition(pod, "DisruptionTarget")
    if disruption:
        return f"was taken away ({disruption.get('reason')}){_detail(disruption.get('message'))}"
    if (ended(pod) or {}).get("exitCode") == EXIT_STOPPED or leaving(pod):
        return "was told to stop"
    return None


@dataclass
class Patience:
    """How long pods have been waiting, and which is waiting in vain."""

    launcher: KubernetesLauncher
    # Uids of the pods that were reported as stuck.
    reported_pods: set[str] = field(default_factory=set)
    # Monotonic time of the first look, by the Job's name, or the pod's uid and what it waits for.
    since: dict[str, float] = field(default_factory=dict)

    def exhausted(
        self,
        job: Object,
        pods: Sequence[Object],
        now: float,
        warnings: Callable[[str], Sequence[str]],
    ) -> Trouble | None:
        """Why a Job will not start, or go on, once it is clear.

        ``warnings`` gives the messages of the warnings about an object, oldest first; ``now`` is
        monotonic time in seconds.
        """
        for pod in pods:
            if not leaving(pod) and phase(pod) == "Pending":
                trouble = self._of_pod(pod, now, warnings)
                if trouble:
                    return trouble
        name = job["metadata"]["name"]
        if pods or state_of(job) != "runs":
            self.since.pop(name, None)
        elif self._waited(name, now, self.launcher.schedule_within_s):
            return Trouble(
                f"no pod was made for it within {self.launcher.schedule_within_s:g} s"
                f"{_last(warnings(name))}",
                final=False,
            )
        return None

    def stuck(self, pods: Sequence[Object], now: float) -> list[str]:
        """Names of the pods that should have ended and have not; each is returned once."""
        limit = self.launcher.grace_s + STUCK_S
        stuck_pods = {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in pods
            if leaving(pod) and self._waited(f"{pod['metadata']['uid']} end", now, limit)
        }
        names = [name for uid, name in stuck_pods.items() if uid not in self.reported_pods]
        self.reported_pods |= set(stuck_pods)
        return names

    def _of_pod(
        self, pod: Object, now: float, warnings: Callable[[str], Sequence[str]]
    ) -> Trouble | None:
        name = pod["metadata"]["name"]
        waiting = container(pod).get("waiting") or {}
        reason, message = waiting.get("reason"), waiting.get("message")
        if reason in NO_IMAGE:
            warning = _last([text for text in warnings(name) if "pull" in text.lower()])
            return Trouble(
                f"its image can't be pulled ({reason}){warning or _detail(message)}; check the "
                "digest in launcher.kubernetes.image and image_pull_secrets",
                final=True,
            )
        if reason in NO_CONTAINER:
            return Trouble(
                f"its container can't be created ({reason}){_detail(message)}; check "
                "launcher.kubernetes (env_secrets, claims, the image's user)",
                final=True,
            )
        uid = pod["metadata"]["uid"]
        if condition(pod, "PodScheduled") is None:
            if not self._waited(f"{uid} node", now, self.launcher.schedule_within_s):
                return None
            refusal = _condition(pod, "PodScheduled") or {}
            return Trouble(
                f"no node took its pod within {self.launcher.schedule_within_s:g} s"
                f"{_detail(refusal.get('message'))}; free or add GPUs, or change what "
                "launcher.kubernetes asks for",
                final=False,
            )
        if self._waited(f"{uid} start", now, self.launcher.start_within_s):
            return Trouble(
                f"its pod has a node but did not start within {self.launcher.start_within_s:g} s"
                f"{_last(warnings(name))}",
                final=False,
            )
        return None

    def _waited(self, wait: str, now: float, limit_s: float) -> bool:
        return now - self.since.setdefault(wait, now) >= limit_s


def last_broken(pods: Sequence[Object]) -> Object | None:
    """The last of some pods, oldest first, that failed."""
    broken = [pod for pod in pods if phase(pod) == "Failed" or (ended(pod) or {}).get("exitCode")]
    return broken[-1] if broken else None


def why_failed(
    job: Object,
    pods: Sequence[Object],
    error: tuple[str, bool] | None,
    log_end: Callable[[str], str | None],
    launcher: KubernetesLauncher,
) -> Trouble:
    """Why a Job failed.

    Args:
        job: The failed Job.
        pods: All its pods that were ever seen, each as last seen, oldest first.
        error: The last error that the job itself reported, and whether it is final.
        log_end: Gives the last line of a pod's log.
        launcher: Settings that the Job was made with.
    """
    failed = condition(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return Trouble(
            f"it did not end within {launcher.deadline_s} s; its last state is kept, and it goes "
            "on from there when asked for again (launcher.kubernetes.deadline_s)",
            final=True,
        )
    last = last_broken(pods)
    end = (ended(last) if last else None) or {}
    if end.get("reason") == "OOMKilled":
        return Trouble(
            f"out of memory: its pod was killed at its limit of {launcher.memory}; raise "
            "launcher.kubernetes.memory, or take a smaller per_device_batch_size, a shorter "
            "max_length, or no offload",
            final=True,
        )
    status = (last or {}).get("status") or {}
    if status.get("reason") == "Evicted":
        return Trouble(
            f"its pod was evicted{_detail(status.get('message'))}; raise launcher.kubernetes.shm "
            "or give it a volume with more room",
            final=True,
        )
    if error and end.get("exitCode") != EXIT_KILLED:
        return Trouble(error[0], final=error[1])
    if end.get("exitCode") == EXIT_KILLED:
        return Trouble(
            "killed by SIGKILL, as a node does when its memory runs out "
            f"(its limit is {launcher.memory}); if so, use a smaller batch or length",
            final=False,
            interrupted=last is not None and leaving(last),
        )
    if pods and last is None and leaving(pods[-1]):
        # The pod was gone before its end was seen.
        return Trouble("its pod was deleted and had to be killed", final=False, interrupted=True)
    if end:
        line = log_end(last["metadata"]["name"]) if last else None
        return Trouble(
            f"its pod ended with exit status {end['exitCode']}{_detail(line)}", final=False
        )
    why = (
        (last or {}).get("status", {}).get("message") or failed.get("message") or "no reason given"
    )
    return Trouble(f"its Job failed: {why}", final=False)


def _detail(text: Any) -> str:
    return f": {str(text).strip().rstrip('.')}" if text else ""


def _last(texts: Sequence[str]) -> str:
    return _detail(texts[-1]) if texts else ""
