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
    """The place where jobs run refuses, which a repeat would not change, or does not answer."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class Trouble:
    """Why a job failed, or will never start.

    The text goes into one sentence, and the metadata into the failure's.
    """

    text: str
    final: bool  # a repeat would end in the same way
    interrupted: bool = False  # the job lost its process, and a repeat goes on from its state
    metadata: Mapping[str, Any] = field(default_factory=dict)


Ending = Trouble | Literal["complete", "gone"]


@dataclass(frozen=True)
class JobRequest:
    """What a launcher is to start, and the run that asks for it."""

    work: Work
    name: str
    folder: str  # path or URL, where ``job.json`` is
    environment: Mapping[str, str]  # variables by which the process reports through Pipes
    run_id: str

    @property
    def arguments(self) -> list[str]:
        """Command line arguments of the Python process that does the work."""
        return ["-m", self.work.module, f"{self.folder}/job.json"]


@dataclass(frozen=True)
class SubmittedJob:
    """A job as its launcher last saw it.

    One that is ``leaving`` is being removed, and no other of its name can be made before.
    """

    name: str
    folder: str  # path or URL; empty where this platform did not make the job
    native: Any  # the launcher's own object for it
    state: State = "runs"
    run_id: str = ""  # the run that started it
    stop_by_hand: str = ""  # the command by which a person stops it


class JobLauncher(ABC, Generic[Own]):
    """A place where jobs run; a team's own launcher is a child of this, with its own settings."""

    # Whether a job goes on when the process that waits for it ends.
    outlives_runs: ClassVar[bool] = True
    # The job's reports come back by this class.
    mailbox: ClassVar[type[Mailbox] | type[MessageFile]] = Mailbox

    def __init__(self, own: Own, settings: Settings, log: logging.Logger) -> None:
        self.own, self.settings, self.log = own, settings, log
        # Tells the home's jobs from those of another home.
        self.place = self.home = str(settings.home.absolute())

    @abstractmethod
    def submit(self, request: JobRequest) -> SubmittedJob | None:
        """Start a job; return nothing where there is one of its name."""

    @abstractmethod
    def adopt(self, name: str) -> SubmittedJob | None:
        """The job of a name, if there is one, whoever started it and however it stands."""

    @abstractmethod
    def watch(self, job: SubmittedJob, reports: MailboxReader) -> Ending:
        """Poll a job's reports until it is over; return ``gone`` where somebody removed it."""

    @abstractmethod
    def stop(self, job: SubmittedJob, within_s: float = 0.0) -> None:
        """Stop and remove a job, which may be over, and wait for its end for so many seconds."""

    @abstractmethod
    def look(self) -> str:
        """Look at the place, and say in a few words what a person should know of it."""

    def others(self, work: Work) -> list[SubmittedJob]:
        """Jobs that make the partition of a work, from whichever inputs."""
        return []

    def refuse(self, work: Work) -> None:
        """Raise a ``LauncherError`` for a work that can't run there, before anything is made."""

    def devices(self, work: Work) -> dict[str, int]:
        """Numbers of ``processes`` and ``nodes`` that are written into the job."""
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
