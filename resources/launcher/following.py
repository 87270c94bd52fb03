"""How a run gets a work's result: it takes over or starts a job, watches, reads and removes it.

A job belongs to what it makes and not to the run that asked: its name comes from partition and
provenance, so a run that finds it takes it over, and reads its reports from their start.
"""

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import dagster as dg
from dagster import PipesEnvContextInjector

from resources.launcher.folder import JobFolder
from resources.launcher.protocol import (
    JobLauncher,
    JobRequest,
    LauncherError,
    SubmittedJob,
    Trouble,
)
from resources.launcher.reports import MailboxReader
from resources.launcher.work import Work, failure

# Seconds that a shared volume may take to show a file that another node wrote.
SHOWN_WITHIN_S = 60.0
# Seconds to wait for a job's end; a run's own pod has 30 s from SIGTERM to SIGKILL.
STOP_WITHIN_S = 20.0
# Tags in which a run names the run that it repeats.
REPEATED = ("dagster/parent_run_id", "dagster/root_run_id")
# Statuses that "Terminate", before the process gets its signal, and "Force terminate" set.
ENDED_BY_HAND = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
Seen = TypeVar("Seen")


def shown(look: Callable[[], Seen], poll_s: float, *, late: bool = True) -> Seen:
    """What a look finds; where it may come late, as on a shared volume, it is waited for."""
    ends = time.monotonic() + (SHOWN_WITHIN_S if late else 0)
    while (seen := look()) in (None, False) and time.monotonic() < ends:
        time.sleep(min(1.0, poll_s))
    return seen


class FollowedWork:
    """A work on its way through a job, for one run.

    When this process is killed, a job that can go on does so; when the run is terminated, the job
    is stopped.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, work: Work, launcher: JobLauncher[Any]
    ) -> None:
        self.context, self.work, self.launcher = context, work, launcher
        self.log, self.own = context.log, launcher.own
        self.name = work.job_name(launcher.place)
        self.jobs = launcher.jobs.rstrip("/")
        # A job that this run starts has this folder; one that it takes over has another.
        self.own_folder = JobFolder(f"{self.jobs}/{self.name}/{uuid.uuid4().hex[:12]}")
        self.folder = self.own_folder
        self.reports = MailboxReader(launcher.mailbox, self.folder.messages, context.log)
        self.environment: Mapping[str, str] = {}

    def result(self) -> dict[str, Any]:
        """Run to the end; see ``TrainingLauncher.run``."""
        attempts = 1 + self.own.retries
        with dg.open_pipes_session(
            context=self.context,
            context_injector=PipesEnvContextInjector(),
            message_reader=self.reports,
        ) as session:
            self.environment = session.get_bootstrap_env_vars()
            while True:
                job = None
                try:
                    job = self._job()
                    outcome = self._outcome(job)
                except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
                    self._interrupted(job)
                    raise
                if not isinstance(outcome, Trouble):
                    self._tidy(job)
                    return outcome
                attempts -= 1
                if not outcome.interrupted or not attempts:
                    raise failure(
                        self.work,
                        outcome.text,
                        final=outcome.final,
                        job=self.name,
                        **outcome.metadata,
                    )
                self.log.warning(f"{self.work.name}: {outcome.text}; it is started again")
                self._remove(job)

    def _outcome(self, job: SubmittedJob) -> dict[str, Any] | Trouble:
        """The job's result, or why there is none."""
        ending = self.launcher.watch(job, self.reports)
        if isinstance(ending, Trouble):
            return ending
        result = shown(self.reports.result, self.own.poll_s, late=ending == "complete")
        if result is not None:
            return result
        if ending == "complete":
            return Trouble(
                f"Job {self.name} is complete but reported no result in {self.folder.url}",
                final=False,
            )
        if not self.folder.exists():
            return Trouble("its Job was removed by another run that waited for it", False, True)
        return Trouble(
            "its Job was deleted while it ran; its last state is kept, and it goes on from there "
            "when asked for again",
            final=False,
        )

    # Finding or starting the job.

    def _job(self) -> SubmittedJob:
        """A job that is there and is taken over, or one that is started."""
        ends = time.monotonic() + self.own.grace_s + self.own.patience_s
        while True:
            present = self.launcher.adopt(self.name)
            job = self._started() if present is None else self._taken_over(present)
            if job is not None:
                self.folder.add_run(self.context.run_id)
                return job
            if time.monotonic() > ends:
                raise LauncherError(
                    f"Job {self.name} is being deleted and does not go away", refused=False
                )
            time.sleep(self.own.poll_s)

    def _started(self) -> SubmittedJob | None:
        """A new job; nothing where one of its name is there after all."""
        self._remove_orphans()
        if self.folder is not self.own_folder:
            self.folder = self.own_folder
            self.reports.turn_to(self.folder.messages)
        if not self.folder.exists():
            more: dict[str, Any] = dict(self.launcher.devices(self.work))
            if self.launcher.outlives_runs:
                # The processes of a work that begins anew know each other by this.
                more["launch"] = self.folder.url.rsplit("/", 1)[-1]
            self.folder.write(self.work, more)
        job = self.launcher.submit(
            JobRequest(self.work, self.name, self.folder.url, self.environment, self.context.run_id)
        )
        if job is not None:
            # Now no job is left that could need the folders of earlier ones.
            for other in self.folder.others():
                other.remove()
        return job

    def _taken_over(self, job: SubmittedJob) -> SubmittedJob | None:
        """A job that is there, if it runs; one that is over is removed, to make room for a new one.

        A job that is complete is taken over, too, where nobody read its result and this run repeats
        one that waited for it.
        """
        if job.state == "leaving":
            return None
        folder = self._folder_of(job)
        if folder is None:
            raise LauncherError(
                f"Job {self.name} was not made by this platform; remove it", refused=True
            )
        if folder.url == self.own_folder.url:
            # A request of this run made the job, and its answer was lost.
            return job
        unread = job.state == "complete" and self._repeats(folder)
        if job.state != "runs" and not unread:
            self.log.info(f"Job {self.name} of an earlier run is over; it is removed")
            self._remove(job)
            return None
        if not shown(folder.exists, self.own.poll_s):
            raise LauncherError(
                f"Job {self.name} runs but its folder {folder.url} is gone; delete the Job, and "
                "run this again",
                refused=True,
            )
        self.log.info(
            f"Job {self.name} was started by run {job.run_id}; it is taken over, and its reports "
            "are read from their start"
        )
        self.own_folder.remove()
        self.folder = folder
        self.reports.turn_to(folder.messages)
        return job

    def _repeats(self, folder: JobFolder) -> bool:
        """Whether this run repeats one that waited for a job whose result nobody took."""
        repeated_runs = {self.context.run.tags.get(tag) for tag in REPEATED}
        return not folder.was_read() and bool(repeated_runs & set(folder.runs()))

    def _remove_orphans(self) -> None:
        """Remove jobs of this partition from other inputs for which no run waits any more."""
        for job in self.launcher.others(self.work):
            if job.name == self.name or job.state == "leaving":
                continue
            makes = f"Job {job.name} makes this partition from other inputs"
            if job.state == "runs" and self._waited_for(job):
                self.log.info(f"{makes}; a run waits for it")
                continue
            self.log.info(f"{makes}; it is removed")
            self._remove(job)

    def _waited_for(self, job: SubmittedJob) -> bool:
        """Whether a run that is not over, other than this one, waits for a job."""
        folder = self._folder_of(job)
        others = set(folder.runs()) - {self.context.run_id} if folder else set()
        runs = [self.context.instance.get_run_by_id(run_id) for run_id in others]
        return any(run is not None and not run.is_finished for run in runs)

    def _folder_of(self, job: SubmittedJob) -> JobFolder | None:
        return JobFolder(job.folder) if job.folder.startswith(f"{self.jobs}/") else None

    # Ending it.

    def _remove(self, job: SubmittedJob) -> None:
        """Remove a job and its folder."""
        self.launcher.stop(job)
        if folder := self._folder_of(job):
            folder.remove()

    def _tidy(self, job: SubmittedJob) -> None:
        """Remove a job whose result is here: whatever fails now, it stays a success."""
        try:
            self.folder.mark_read()
            self.folder.remove_run(self.context.run_id)
            if self._waited_for(job):
                self.log.info(
                    f"another run reads the reports of Job {self.name}, too, and removes it"
                )
            else:
                self._remove(job)
        except Exception as error:
            self.log.warning(f"Job {self.name} is done but could not be removed: {error}")

    def _interrupted(self, job: SubmittedJob | None) -> None:
        """Stop the job if somebody wanted that; else leave it to the next run.

        The job is absent where the interrupt came while it was looked for or started.
        """
        try:
            present = job or self.launcher.adopt(self.name)
            folder = self._folder_of(present) if present else None
            if present and folder and (job or folder.url == self.own_folder.url):
                self._leave_or_stop(present, folder)
        except (LauncherError, OSError) as error:
            self.log.warning(f"Job {self.name} may go on: {error}")

    def _leave_or_stop(self, job: SubmittedJob, folder: JobFolder) -> None:
        run = self.context.instance.get_run_by_id(self.context.run_id)
        ended_by_hand = run is not None and run.status in ENDED_BY_HAND
        if not ended_by_hand and not sys.stderr.isatty() and self.launcher.outlives_runs:
            # The mark of this run stays, because the run that repeats it is known by it.
            self.log.warning(
                f"this run ends, and Job {self.name} goes on: who asks for the same takes it over; "
                f"`{job.stop_by_hand}` stops it"
            )
            return
        folder.remove_run(self.context.run_id)
        if self._waited_for(job):
            self.log.info(f"this run ends; Job {self.name} goes on, for another run waits for it")
            return
        self.log.info(
            f"stopping Job {self.name}: SIGTERM, and {self.own.grace_s} s to keep its state"
        )
        self.launcher.stop(job, min(self.own.grace_s, STOP_WITHIN_S))
        self.reports.poll()
