"""What a launcher must be able to do, and the words in which it says how a job stands.

A launcher knows one place where jobs run. How a work is followed there from its start to its
result, by this run or one that takes it over, is the same for all and lies in ``following``.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pkgutil import resolve_name
from typing import Any, ClassVar, Generic, Literal, TypeVar

from resources.errors import PassingError
from resources.launcher.mailbox import Mailbox, MessageFile
from resources.launcher.reports import MailboxReader
from resources.launcher.work import Work
from resources.settings import LauncherSettings, Settings

State = Literal["runs", "leaving", "complete", "failed"]
Own = TypeVar("Own", bound=LauncherSettings)


class LauncherError(PassingError):
    """The place where jobs run refuses, or does not answer; the message is for a person.

    Attributes:
        refused: Whether it refused, which a repeat would not change.
    """

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class Trouble:
    """Why a job failed, or will never start.

    Attributes:
        text: One sentence's worth.
        final: Whether a repeat would end likewise.
        interrupted: Whether its process was taken from it, so that the same again goes on.
        metadata: What else stands with the failure.
    """

    text: str
    final: bool
    interrupted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


Ending = Trouble | Literal["complete", "gone"]


@dataclass(frozen=True)
class JobRequest:
    """What a launcher is to start.

    Attributes:
        work: The work.
        name: The job's name.
        folder: Path or URL of the job's folder, in which ``job.json`` is.
        environment: What the process needs to report by Pipes.
        run_id: The run that asks.
    """

    work: Work
    name: str
    folder: str
    environment: Mapping[str, str]
    run_id: str

    @property
    def arguments(self) -> list[str]:
        """Arguments of the Python that does the work."""
        return ["-m", self.work.module, f"{self.folder}/job.json"]


@dataclass(frozen=True)
class SubmittedJob:
    """A job as its launcher last saw it.

    Attributes:
        name: Its name.
        folder: Its folder; empty where it was not made by this platform.
        native: What the launcher knows it by.
        state: ``leaving``: it is being removed, and another of its name can't be made yet.
        run_id: The run that started it.
        stop_by_hand: Command by which a person stops it.
    """

    name: str
    folder: str
    native: Any
    state: State = "runs"
    run_id: str = ""
    stop_by_hand: str = ""


class JobLauncher(ABC, Generic[Own]):
    """A place where jobs run; a launcher of one's own is a child of this and its settings.

    Attributes:
        outlives_runs: Whether a job goes on when the process that waits for it ends.
        mailbox: What carries the job's reports back.
        place: What tells the home's jobs from those of another home.
        own: The launcher's own settings.
        log: Takes what a person should know.
    """

    outlives_runs: ClassVar[bool] = True
    mailbox: ClassVar[type[Mailbox] | type[MessageFile]] = Mailbox

    def __init__(self, own: Own, settings: Settings, log: logging.Logger) -> None:
        self.own, self.settings, self.log = own, settings, log
        self.place = self.home = str(settings.home.absolute())

    @abstractmethod
    def submit(self, request: JobRequest) -> SubmittedJob | None:
        """Start a job; nothing where one of its name is there."""

    @abstractmethod
    def adopt(self, name: str) -> SubmittedJob | None:
        """The job of a name that is there, whoever started it and whether it runs or is over."""

    @abstractmethod
    def watch(self, job: SubmittedJob, reports: MailboxReader) -> Ending:
        """Poll a job's reports until it is over; it is ``gone`` where somebody removed it."""

    @abstractmethod
    def stop(self, job: SubmittedJob, within_s: float = 0.0) -> None:
        """Stop and remove a job, and wait so long for its end; that it is over is as good."""

    @abstractmethod
    def look(self) -> str:
        """What a person should know of the place, in a few words, after a look at it."""

    def others(self, work: Work) -> list[SubmittedJob]:
        """Jobs that make the partition of a work, from whichever inputs."""
        return []

    def refuse(self, work: Work) -> None:
        """Raise a ``LauncherError`` for a work that can't run there, before anything is made."""

    def devices(self, work: Work) -> dict[str, int]:
        """What the job is told of the devices that it has: ``processes``, ``nodes``."""
        return {}

    @cached_property
    def jobs(self) -> str:
        """Path or URL of the folder that has the folders of all jobs."""
        return self.settings.jobs

    def close(self) -> None:
        """End what must not outlive the run."""


def launcher_of(settings: Settings, log: logging.Logger, **changed: Any) -> JobLauncher[Any]:
    """The launcher that a home's settings name, with some of its own settings changed."""
    own = settings.launcher.own.model_copy(update=changed)
    launcher: JobLauncher[Any] = resolve_name(own.implementation)(own, settings, log)
    return launcher
