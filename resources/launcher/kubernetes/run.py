"""From a work to its result by way of a Job: found or made, watched, read, removed."""

import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster import PipesEnvContextInjector

from resources.launcher.job import EXIT_CRASH, EXIT_JOB_ERROR
from resources.launcher.kubernetes import spec, state
from resources.launcher.kubernetes.api import Api, ApiError, Object
from resources.launcher.kubernetes.folder import JobFolder
from resources.launcher.kubernetes.logs import LogFollower
from resources.launcher.kubernetes.reports import MailboxReader
from resources.launcher.kubernetes.state import Patience, Trouble
from resources.launcher.work import Work, error_of, failure, last_line, result_of
from resources.remote import is_url
from resources.settings import KubernetesLauncher, Settings

# What a shared volume may take to show a file that another node wrote.
SHOWN_WITHIN_S = 60.0
LOG_LINES = 20
# A run's own pod has 30 s from SIGTERM to SIGKILL.
STOP_WITHIN_S = 20.0
# Tags of a run that repeats another, with that one's id.
REPEATED = ("dagster/parent_run_id", "dagster/root_run_id")
# What "Terminate" sets before the process is told, and what "Force terminate" does.
ENDED_BY_HAND = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
WAITING = frozenset(
    {
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    }
)


def run(context: dg.AssetExecutionContext, work: Work, settings: Settings) -> dict[str, Any]:
    """Run a work in a Job to its end and return its result.

    A Job of the same work that is there already is taken over, and its reports are read from their
    start. When this process is killed the Job goes on; when the run is terminated it is stopped.

    Args:
        context: The asset that asks.
        work: What to run.
        settings: The home's settings.

    Raises:
        dagster.Failure: It failed; the description says why in one sentence.
    """
    launcher = settings.launcher.kubernetes
    if launcher is None:
        raise failure(work, "there is no [launcher.kubernetes] in the settings", final=True)
    home = str(settings.home.absolute())
    _refuse_unreachable(work, launcher, home, settings.jobs)
    try:
        return _Run(context, work, launcher, home, settings.jobs).result()
    except ApiError as error:
        # What runs goes on: a training is not lost for want of somebody who watches it.
        raise failure(work, str(error), final=error.refused) from None
    except OSError as error:
        raise failure(work, f"the Job's folder can't be used: {error}", final=False) from None


def _refuse_unreachable(work: Work, launcher: KubernetesLauncher, home: str, jobs: str) -> None:
    """Refuse places that the pods do not have, before a GPU is asked for."""

    def shared(place: str) -> bool:
        return any(f"{place}/".startswith(f"{path}/") for path in (home, *launcher.claims))

    scratch = (work.job.get("settings") or {}).get("scratch")
    remote = [place for place in work.places if is_url(place)]
    if spec.nodes_of(work, launcher) > 1 and remote and not (scratch and shared(str(scratch))):
        raise failure(
            work,
            "a training on several nodes keeps each node's part of a state, and only a folder that "
            "all nodes have holds them together; unset training.checkpoints_url, or name a folder "
            "on a volume claim in training.scratch",
            final=True,
        )
    for place in (*work.places, jobs):
        if is_url(place) or shared(place):
            continue
        raise failure(
            work,
            f"{place} is on no volume that its pods have; put it below {home}, or name the volume "
            "that it is on in launcher.kubernetes.claims",
            final=True,
        )


class _Run:
    """One run's way with a work's Job."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        work: Work,
        launcher: KubernetesLauncher,
        home: str,
        jobs: str,
    ) -> None:
        self.context, self.work, self.launcher = context, work, launcher
        self.home, self.jobs = home, jobs
        self.say = context.log.info
        self.api = Api(launcher, context.log.warning)
        self.name = spec.job_name(work, launcher, home)
        self.nodes = spec.nodes_of(work, launcher)
        # The folder of a Job that this run makes; one that it takes over has another.
        self.own = JobFolder(f"{jobs.rstrip('/')}/{self.name}/{uuid.uuid4().hex[:12]}")
        self.folder = self.own
        self.reader = MailboxReader(self.folder.messages)
        self.environment: Mapping[str, str] = {}

    def result(self) -> dict[str, Any]:
        """Run to the end; see ``run``."""
        attempts = 1 + self.launcher.retries
        with dg.open_pipes_session(
            context=self.context,
            context_injector=PipesEnvContextInjector(),
            message_reader=self.reader,
        ) as session:
            self.environment = session.get_bootstrap_env_vars()
            while True:
                job = None
                try:
                    job = self._job()
                    outcome = _Watch(self, job).outcome()
                except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
                    self._interrupted(job)
                    raise
                if not isinstance(outcome, Trouble):
                    self._tidy(job)
                    return outcome
                attempts -= 1
                if not outcome.interrupted or not attempts:
                    raise failure(self.work, outcome.text, final=outcome.final, job=self.name)
                self.context.log.warning(f"{self.work.name}: {outcome.text}; it is started again")
                self._remove(job)

    # Finding or making the Job.

    def _job(self) -> Object:
        """The Job, found or made."""
        ends = time.monotonic() + self.launcher.grace_s + self.launcher.patience_s
        while True:
            found = self.api.job(self.name)
            made = self._made() if found is None else self._found(found)
            if made is not None:
                self.folder.add_run(self.context.run_id)
                return made
            if time.monotonic() > ends:
                raise ApiError(
                    f"Job {self.name} is being deleted and does not go away", refused=False
                )
            time.sleep(self.launcher.poll_s)

    def _made(self) -> Object | None:
        """A new Job; nothing where one of its name is there after all."""
        self._remove_orphans()
        if self.folder is not self.own:
            self.folder = self.own
            self.reader.turn_to(self.own.messages)
        if not self.folder.exists():
            gpus = max(1, self.launcher.gpus)
            # The launch is what a work that is to begin anew knows its other pods by.
            more: dict[str, Any] = {"launch": self.folder.url.rsplit("/", 1)[-1]}
            if self.work.parallel:
                more |= {"processes": gpus, "nodes": self.nodes}
            self.folder.write(self.work, more)
        if self.nodes > 1:
            self.api.create_service(spec.service_manifest(self.name, self.launcher))
        made = self.api.create_job(
            spec.job_manifest(
                self.work,
                self.launcher,
                home=self.home,
                folder=self.folder.url,
                environment=self.environment,
                run_id=self.context.run_id,
            )
        )
        if made is not None:
            # Now there is none that could still need them.
            for other in self.own.others():
                other.remove()
            self.say(f"started Job {self.name} in namespace {self.launcher.namespace}")
        return made

    def _found(self, job: Object) -> Object | None:
        """A Job that is there, if it runs; one that is over makes room for a new one.

        But not one that ended well for a run that this one repeats, and that nobody read.
        """
        if state.leaving(job):
            return None
        folder = self._folder_of(job)
        if folder is None:
            raise ApiError(
                f"Job {self.name} was not made by this platform; remove it", refused=True
            )
        if folder.url == self.own.url:
            # Made by a request whose answer was lost.
            return job
        unread = state.condition(job, "Complete") and self._repeats(folder)
        if state.finished(job) and not unread:
            self.say(f"Job {self.name} of an earlier run is over; it is removed")
            self._remove(job)
            return None
        self._await(folder)
        self.say(
            f"Job {self.name} was started by run {job['metadata']['labels'][spec.RUN]}; it is "
            "taken over, and its reports are read from their start"
        )
        self.own.remove()
        self.folder = folder
        self.reader.turn_to(folder.messages)
        return job

    def _repeats(self, folder: JobFolder) -> bool:
        """Whether this run repeats one that waited for a Job whose result nobody took."""
        before = {self.context.run.tags.get(tag) for tag in REPEATED}
        return not folder.was_read() and bool(before & set(folder.runs()))

    def _await(self, folder: JobFolder) -> None:
        """Wait for the files of a Job that runs: a shared volume may show them late."""
        ends = time.monotonic() + SHOWN_WITHIN_S
        while not folder.exists():
            if time.monotonic() > ends:
                raise ApiError(
                    f"Job {self.name} runs but its folder {folder.url} is gone; delete the Job, "
                    "and run this again",
                    refused=True,
                )
            time.sleep(min(1.0, self.launcher.poll_s))

    def _remove_orphans(self) -> None:
        """Remove Jobs of this partition from other inputs for which no run waits any more."""
        for job in self.api.jobs(spec.selector(self.work, self.launcher, self.home)):
            name = job["metadata"]["name"]
            if name == self.name or state.leaving(job):
                continue
            if not state.finished(job) and self._waited_for(job):
                self.say(f"Job {name} makes this partition from other inputs; a run waits for it")
                continue
            self.say(f"Job {name} made this partition from other inputs; it is removed")
            self._remove(job)

    def _waited_for(self, job: Object) -> bool:
        """Whether a run that is not over, other than this one, waits for a Job."""
        folder = self._folder_of(job)
        others = set(folder.runs()) - {self.context.run_id} if folder else set()
        for run_id in others:
            found = self.context.instance.get_run_by_id(run_id)
            if found is not None and found.status in WAITING:
                return True
        return False

    def _folder_of(self, job: Object) -> JobFolder | None:
        url = (job["metadata"].get("annotations") or {}).get(spec.FOLDER, "")
        return JobFolder(url) if url.startswith(f"{self.jobs.rstrip('/')}/") else None

    # Ending it.

    def _remove(self, job: Object) -> None:
        """Remove a Job, with its pods, its service and its folder."""
        self.stop(job)
        folder = self._folder_of(job)
        if folder:
            folder.remove()

    def _tidy(self, job: Object) -> None:
        """Remove a Job whose result is here: whatever fails now, it stays a success."""
        try:
            self.folder.mark_read()
            self.folder.remove_run(self.context.run_id)
            if self._waited_for(job):
                self.say(f"another run reads the reports of Job {self.name}, too, and removes it")
            else:
                self._remove(job)
        except Exception as error:
            self.context.log.warning(f"Job {self.name} is done but could not be removed: {error}")

    def stop(self, job: Object) -> None:
        """Remove a Job that failed to start, or is to be stopped; its folder stays for its end."""
        self.api.delete_job(job)
        if job["spec"].get("completionMode") == "Indexed":
            self.api.delete_service(job["metadata"]["name"])

    def _interrupted(self, job: Object | None) -> None:
        """Stop the Job if that was what somebody wanted; else leave it to the next run.

        Args:
            job: The Job; absent where the end came while it was looked for or made.
        """
        try:
            found = job or self.api.job(self.name)
            folder = self._folder_of(found) if found else None
            if found and folder and (job or folder.url == self.own.url):
                self._leave_or_stop(found, folder)
        except (ApiError, OSError) as error:
            self.context.log.warning(f"Job {self.name} may go on: {error}")

    def _leave_or_stop(self, job: Object, folder: JobFolder) -> None:
        found = self.context.instance.get_run_by_id(self.context.run_id)
        wanted = found is not None and found.status in ENDED_BY_HAND
        if not wanted and not sys.stderr.isatty():
            # Its mark stays: the run that repeats this one is known by it.
            self.context.log.warning(
                f"this run ends, and Job {self.name} goes on: who asks for the same takes it over; "
                f"`kubectl -n {self.launcher.namespace} delete job {self.name}` stops it"
            )
            return
        folder.remove_run(self.context.run_id)
        if self._waited_for(job):
            self.say(f"this run ends; Job {self.name} goes on, for another run waits for it")
            return
        self.say(
            f"stopping Job {self.name}: SIGTERM, and {self.launcher.grace_s} s to keep its state"
        )
        self.stop(job)
        ends = time.monotonic() + min(self.launcher.grace_s, STOP_WITHIN_S)
        while self.api.pods(job) and time.monotonic() < ends:
            time.sleep(min(1.0, self.launcher.poll_s))
        with suppress(Exception):
            self.reader.poll()


class _Watch:
    """Looks at a Job until it is over."""

    def __init__(self, run: _Run, job: Object) -> None:
        self._run, self._job = run, job
        self._api, self._reader, self._launcher = run.api, run.reader, run.launcher
        self._log = run.context.log
        self._patience = Patience(run.launcher)
        # As last seen: a pod that is gone may be why the Job failed.
        self._pods: dict[str, Object] = {}
        self._lost: set[str] = set()
        self._followed: dict[str, LogFollower] = {}

    def outcome(self) -> dict[str, Any] | Trouble:
        """The job's result, or why there is none."""
        try:
            while True:
                found = self._look()
                if found is not None:
                    return found
                time.sleep(self._launcher.poll_s)
        finally:
            for follower in self._followed.values():
                follower.end()

    def _look(self) -> dict[str, Any] | Trouble | None:
        self._read()
        name, uid = self._job["metadata"]["name"], self._job["metadata"]["uid"]
        job = self._api.job(name)
        if job is None or job["metadata"]["uid"] != uid:
            return self._gone()
        pods = self._api.pods(job)
        for pod in pods:
            self._see(pod)
        for stuck in self._patience.stuck(pods, time.monotonic()):
            self._log.warning(
                f"pod {stuck} does not end, as on a node that is gone, and no other is made before "
                f"it has: kubectl -n {self._launcher.namespace} delete pod {stuck} --force "
                "--grace-period=0"
            )
        if state.condition(job, "Complete"):
            return self._result() or Trouble(
                f"Job {name} is complete but reported no result in {self._run.folder.url}",
                final=False,
            )
        if state.condition(job, "Failed"):
            return self._failed(job)
        trouble = self._patience.exhausted(job, pods, time.monotonic(), self._api.warnings)
        if trouble is not None:
            self._run.stop(job)
        return trouble

    def _read(self) -> None:
        try:
            self._reader.poll()
        except Exception as error:
            # Each driver has errors of its own, and the next look may do better.
            self._log.warning(f"reports can't be read now: {error}")

    def _see(self, pod: Object) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._pods[uid] = pod
        begun = state.ended(pod) or state.container(pod).get("running")
        first = pod["metadata"]["labels"].get(spec.INDEX, "0") == "0"
        if begun and first and uid not in self._followed:
            self._followed[uid] = LogFollower(self._api, name)
        lost = state.lost(pod)
        if lost and uid not in self._lost:
            self._lost.add(uid)
            self._log.warning(f"pod {name} {lost}; another goes on from the last kept state")

    def _result(self) -> dict[str, Any] | None:
        ends = time.monotonic() + SHOWN_WITHIN_S
        while (result := result_of(self._reader.messages)) is None and time.monotonic() < ends:
            time.sleep(min(1.0, self._launcher.poll_s))
            self._read()
        return result

    def _failed(self, job: Object) -> Trouble:
        pods = sorted(self._pods.values(), key=lambda pod: pod["metadata"]["creationTimestamp"])
        last = state.last_broken(pods)
        name = last["metadata"]["name"] if last else ""
        spoke = last and (state.ended(last) or {}).get("exitCode") in {EXIT_CRASH, EXIT_JOB_ERROR}
        ends = time.monotonic() + (SHOWN_WITHIN_S if spoke else 0)
        while (
            error := error_of(self._reader.messages_of(name))
        ) is None and time.monotonic() < ends:
            time.sleep(min(1.0, self._launcher.poll_s))
            self._read()
        return state.why_failed(
            job,
            pods,
            error,
            lambda pod: last_line(self._api.log_end(pod, LOG_LINES)),
            self._launcher,
        )

    def _gone(self) -> dict[str, Any] | Trouble:
        """The Job is no more: done and removed by another run, or deleted by somebody."""
        self._read()
        result = result_of(self._reader.messages)
        if result is not None:
            return result
        if not self._run.folder.exists():
            return Trouble("its Job was removed by another run that waited for it", False, True)
        return Trouble(
            "its Job was deleted while it ran; its last state is kept, and it goes on from there "
            "when asked for again",
            final=False,
        )
