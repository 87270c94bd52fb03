"""A launcher as a team would bring it: this module, its settings, and an entry point."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from resources.launcher.protocol import JobLauncher, SubmittedJob, Trouble
from resources.settings import LauncherSettings


class ToySettings(LauncherSettings):
    implementation = "tests.integration.launcher.toy:ToyLauncher"
    shell: str
    poll_s: float = 0.1


class ToyLauncher(JobLauncher[ToySettings]):
    """Processes that go on without the one that started them; a file says how each ended."""

    def look(self):
        return f"{len(list(Path(self.jobs).glob('*/*/pid')))} jobs of {self.own.shell}"

    def submit(self, request):
        script = '"$@"; echo $? > "$0/part"; mv "$0/part" "$0/status"'
        job = [sys.executable, *request.arguments]
        command = [self.own.shell, "-c", script, request.folder, *job]
        environment = {**os.environ, "HOSTNAME": "toy", **request.environment}
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        Path(request.folder, "pid").write_text(str(process.pid))
        return self.adopt(request.name)

    def adopt(self, name):
        for pid in Path(self.jobs, name).glob("*/pid"):
            folder = pid.parent
            state = "complete" if (folder / "status").exists() else "runs"
            return SubmittedJob(name, str(folder), folder, state, stop_by_hand=f"kill {pid}")
        return None

    def watch(self, job, reports):
        while not (job.native / "status").exists():
            if not (job.native / "pid").exists():
                return "gone"
            reports.poll()
            time.sleep(self.own.poll_s)
        status = int((job.native / "status").read_text())
        return "complete" if status == 0 else Trouble(f"ended with {status}", final=True)

    def stop(self, job, within_s=0.0):
        with suppress(ProcessLookupError):
            os.killpg(int((job.native / "pid").read_text()), signal.SIGTERM)
        (job.native / "pid").unlink()
