"""A job that counts, for the launcher's tests: it keeps its state after each step.

The job file holds ``output`` (folder), ``steps``, ``step_s`` (seconds a step), and ``do``: at step
``at`` the job's n-th process does it (``refuse``, ``crash``, ``segfault``), n of ``when``. While
there is a file ``hold`` in the folder no step ends.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from resources.launcher.job import JobError, read_table, run_job

HOLD = "hold"


def work(job, channel):
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    state = output / "state"
    begun = int(state.read_text()) if state.exists() else 0
    with (output / "begun").open("a") as file:
        file.write(f"{begun} {os.environ['HOSTNAME']}\n")
    attempt = len((output / "begun").read_text().splitlines())
    if job.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for step in range(begun + 1, job["steps"] + 1):
        if step == job.get("at") and attempt in job.get("when", [1]):
            misdo(job["do"], step)
        time.sleep(job.get("step_s", 0.05))
        while (output / HOLD).exists():
            time.sleep(0.05)
        # A kill in between must not leave an empty file.
        part = output / "part"
        part.write_text(str(step))
        part.replace(state)
        print(f"line {step}", file=sys.stderr, flush=True)
        channel.say(f"step {step}")
    keys = ("JOB_COMPLETION_INDEX", "OPENCS_MASTER_ADDR", "GREETING", "OPENCS_HOME")
    return {
        "resumed_from_step": begun,
        "attempts": attempt,
        "rows": read_table(job["table"]).height,
        "environment": {name: os.environ[name] for name in keys if name in os.environ},
        "job": json.loads(json.dumps({**job, "table": None})),
    }


def misdo(what, step):
    if what == "refuse":
        raise JobError(f"the folder is full at step {step}; free 2 GB")
    if what == "crash":
        raise ValueError(f"bad number at step {step}")
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    sys.exit(run_job(work, sys.argv[1:]))
