"""Work in a process on this machine, which ends with the one that waits for it.

The process shows its progress on the terminal that Dagster has.
"""

import codecs
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from functools import cached_property

from resources.launcher.mailbox import MessageFile
from resources.launcher.protocol import Ending, JobLauncher, JobRequest, SubmittedJob, Trouble
from resources.launcher.reports import MailboxReader
from resources.launcher.work import Work, last_line
from resources.settings import LauncherSettings

POLL_S = 0.1
TAIL_CHARACTERS = 4000


class LocalProcesses(JobLauncher[LauncherSettings]):
    """Runs ``python -m <module> <job file>`` here, in one process a job."""

    outlives_runs = False
    mailbox = MessageFile
    _job: SubmittedJob | None = None

    @cached_property
    def jobs(self) -> str:
        """A temporary folder for the folders of all jobs."""
        return tempfile.mkdtemp(prefix="opencs-job-")

    def look(self) -> str:
        """What runs on this machine."""
        return "trainings and answers are processes here"

    def devices(self, work: Work) -> dict[str, int]:
        """Processes of a work that can use several devices: one a visible GPU unless set."""
        processes = self.settings.launcher.processes
        return {"processes": processes or visible_gpus() or 1} if work.parallel else {}

    def submit(self, request: JobRequest) -> SubmittedJob:
        """Start the process."""
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *request.arguments],
            env={**os.environ, **_progress(), **request.environment},
            stderr=subprocess.PIPE,
            # Ctrl-C reaches only this process, which then stops the job as the UI stops a run's.
            process_group=0,
        )
        self._job = SubmittedJob(request.name, request.folder, _Child(process))
        return self._job

    def adopt(self, name: str) -> None:
        """No job is ever there to be adopted: a process ends with the one that started it."""

    def watch(self, job: SubmittedJob, reports: MailboxReader) -> Ending:
        """Wait for the process's end."""
        child: _Child = job.native
        while child.running(POLL_S):
            reports.poll()
        status = child.process.returncode
        if status == 0 and reports.result() is not None:
            return "complete"
        text, final = reports.error() or (_reason(status, child.tail), False)
        return Trouble(text, final, metadata={"exit_status": status})

    def stop(self, job: SubmittedJob, within_s: float = 0.0) -> None:
        """Stop the process, and wait as long as it may take to keep its state."""
        child: _Child = job.native
        # At SIGTERM, unlike SIGINT, a training keeps its state.
        child.process.terminate()
        if child.running(self.own.grace_s):
            child.process.kill()
            child.process.wait()
        child.join()

    def close(self) -> None:
        """Stop the process, and remove the folder."""
        if self._job:
            self.stop(self._job)
        shutil.rmtree(self.jobs, ignore_errors=True)


def visible_gpus() -> int:
    """GPUs that a process started here would see; 0 without any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(device.strip() not in ("", "-1") for device in visible.split(","))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _progress() -> dict[str, str]:
    """Variables that tell a process, whose stderr is a pipe, that a person watches a terminal."""
    watched = sys.stderr.isatty() and "OPENCS_PROGRESS" not in os.environ
    return {"OPENCS_PROGRESS": "1"} if watched else {}


class _Child(threading.Thread):
    """A process whose stderr is passed on as it comes; the end of it is kept."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        super().__init__(name="stderr-echo", daemon=True)
        self.process, self.tail = process, ""
        self.start()

    def running(self, wait_s: float) -> bool:
        """Whether the process still runs after a wait; once it has ended, its tail is complete."""
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return True
        self.join()
        return False

    def run(self) -> None:
        """Read until the process closes its stderr."""
        if self.process.stderr is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with self.process.stderr as stream:
            while chunk := os.read(stream.fileno(), 4096):
                text = decoder.decode(chunk)
                self.tail = (self.tail + text)[-TAIL_CHARACTERS:]
                sys.stderr.write(text)
                sys.stderr.flush()


def _reason(status: int, tail: str) -> str:
    """Why a process failed that reported no error itself."""
    if status < 0:
        text = f"killed by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            text += ", as the system does when memory runs out; use a smaller batch or length"
        return text
    return last_line(tail) or "no result was reported"
