"""The launcher whose jobs are Kubernetes' Jobs."""

import logging
import time

from resources.launcher.following import shown
from resources.launcher.job import EXIT_CRASH, EXIT_JOB_ERROR
from resources.launcher.kubernetes import spec, state
from resources.launcher.kubernetes.api import Api, Object
from resources.launcher.kubernetes.logs import LogFollower
from resources.launcher.kubernetes.state import Patience
from resources.launcher.protocol import (
    Ending,
    JobLauncher,
    JobRequest,
    LauncherError,
    SubmittedJob,
    Trouble,
)
from resources.launcher.reports import MailboxReader
from resources.launcher.work import Work, last_line
from resources.remote import is_url
from resources.settings import KubernetesLauncher, Settings

LOG_LINES = 20


class KubernetesJobs(JobLauncher[KubernetesLauncher]):
    """Runs each work in a Job of one pod, or of several where it can use several nodes."""

    def __init__(self, own: KubernetesLauncher, settings: Settings, log: logging.Logger) -> None:
        super().__init__(own, settings, log)
        # Two homes may have the same path on different claims.
        self.place = spec.home_label(own, self.home)
        self.api = Api(own, log.warning)

    def look(self) -> str:
        """The namespace, the GPUs of a pod, and the number of Jobs that are there."""
        jobs = self.api.jobs(",".join(f"{name}={value}" for name, value in spec.COMPONENT.items()))
        return (
            f"Jobs in namespace {self.own.namespace}, {self.own.gpus} GPUs a pod, {len(jobs)} "
            "Jobs there now"
        )

    def devices(self, work: Work) -> dict[str, int]:
        """The number of processes in a pod, one for each GPU, and of pods."""
        if not work.parallel:
            return {}
        return {"processes": max(1, self.own.gpus), "nodes": spec.nodes_of(work, self.own)}

    def refuse(self, work: Work) -> None:
        """Refuse a work whose places the pods do not have, before a GPU is asked for."""

        def shared(place: str) -> bool:
            paths = (self.home, *self.own.claims)
            return any(f"{place}/".startswith(f"{path}/") for path in paths)

        scratch = (work.job.get("settings") or {}).get("scratch")
        remote = [place for place in work.places if is_url(place)]
        if spec.nodes_of(work, self.own) > 1 and remote and not (scratch and shared(str(scratch))):
            raise LauncherError(
                "a training on several nodes keeps each node's part of a state, and only a folder "
                "that all nodes have holds them together; unset training.checkpoints_url, or name "
                "a folder on a volume claim in training.scratch",
                refused=True,
            )
        for place in (*work.places, self.jobs):
            if not is_url(place) and not shared(place):
                raise LauncherError(
                    f"{place} is on no volume that its pods have; put it below {self.home}, or "
                    "name the volume that it is on in launcher.kubernetes.claims",
                    refused=True,
                )

    def submit(self, request: JobRequest) -> SubmittedJob | None:
        """Make the Job, with the service by which several pods find each other."""
        if spec.nodes_of(request.work, self.own) > 1:
            self.api.create_service(spec.service_manifest(request.name, self.own))
        job = self.api.create_job(spec.job_manifest(request, self.own, self.home))
        if job is None:
            return None
        self.log.info(f"started Job {request.name} in namespace {self.own.namespace}")
        return self._submitted(job)

    def adopt(self, name: str) -> SubmittedJob | None:
        """The Job of a name."""
        job = self.api.job(name)
        return self._submitted(job) if job else None

    def others(self, work: Work) -> list[SubmittedJob]:
        """Jobs with the labels of the work's partition."""
        jobs = self.api.jobs(spec.selector(work, self.own, self.home))
        return [self._submitted(job) for job in jobs]

    def watch(self, job: SubmittedJob, reports: MailboxReader) -> Ending:
        """Look at the Job until it is over."""
        return _Watch(self, job, reports).ending()

    def stop(self, job: SubmittedJob, within_s: float = 0.0) -> None:
        """Delete the Job and its service; its pods get their time to keep a state."""
        self.api.delete_job(job.native)
        if job.native["spec"].get("completionMode") == "Indexed":
            self.api.delete_service(job.name)
        ends = time.monotonic() + within_s
        while within_s and self.api.pods(job.native) and time.monotonic() < ends:
            time.sleep(min(1.0, self.own.poll_s))

    def _submitted(self, job: Object) -> SubmittedJob:
        metadata = job["metadata"]
        return SubmittedJob(
            metadata["name"],
            (metadata.get("annotations") or {}).get(spec.FOLDER, ""),
            job,
            state.state_of(job),
            (metadata.get("labels") or {}).get(spec.RUN, ""),
            f"kubectl -n {self.own.namespace} delete job {metadata['name']}",
        )


class _Watch:
    """Looks at a Job until it is over."""

    def __init__(self, launcher: KubernetesJobs, job: SubmittedJob, reports: MailboxReader) -> None:
        self._launcher, self._job, self._reports = launcher, job, reports
        self._api, self._own, self._log = launcher.api, launcher.own, launcher.log
        self._patience = Patience(launcher.own)
        # Pods as they were last seen, since a pod that is gone may be why the Job failed.
        self._pods: dict[str, Object] = {}
        self._lost: set[str] = set()
        self._followed: dict[str, LogFollower] = {}

    def ending(self) -> Ending:
        """How the Job ended."""
        try:
            while (ending := self._look()) is None:
                time.sleep(self._own.poll_s)
            return ending
        finally:
            for follower in self._followed.values():
                follower.end()

    def _look(self) -> Ending | None:
        self._reports.poll()
        job = self._api.job(self._job.name)
        if job is None or job["metadata"]["uid"] != self._job.native["metadata"]["uid"]:
            return "gone"
        pods = self._api.pods(job)
        for pod in pods:
            self._see(pod)
        for stuck in self._patience.stuck(pods, time.monotonic()):
            self._log.warning(
                f"pod {stuck} does not end, as on a node that is gone, and no other is made before "
                f"it has: kubectl -n {self._own.namespace} delete pod {stuck} --force "
                "--grace-period=0"
            )
        if state.condition(job, "Complete"):
            return "complete"
        if state.condition(job, "Failed"):
            return self._failed(job)
        trouble = self._patience.exhausted(job, pods, time.monotonic(), self._api.warnings)
        if trouble is not None:
            self._launcher.stop(self._job)
        return trouble

    def _see(self, pod: Object) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._pods[uid] = pod
        has_begun = state.ended(pod) or state.container(pod).get("running")
        is_first = pod["metadata"]["labels"].get(spec.INDEX, "0") == "0"
        if has_begun and is_first and uid not in self._followed:
            self._followed[uid] = LogFollower(self._api, name)
        lost = state.lost(pod)
        if lost and uid not in self._lost:
            self._lost.add(uid)
            self._log.warning(f"pod {name} {lost}; another goes on from the last kept state")

    def _failed(self, job: Object) -> Trouble:
        pods = sorted(self._pods.values(), key=lambda pod: pod["metadata"]["creationTimestamp"])
        last = state.last_broken(pods)
        name = last["metadata"]["name"] if last else ""
        exit_code = (state.ended(last) or {}).get("exitCode") if last else None
        # A process with one of these statuses has reported its error, which may be shown late.
        late = exit_code in {EXIT_CRASH, EXIT_JOB_ERROR}
        error = shown(lambda: self._reports.error(name), self._own.poll_s, late=late)
        return state.why_failed(
            job,
            pods,
            error,
            lambda pod: last_line(self._api.log_end(pod, LOG_LINES)),
            self._own,
        )
