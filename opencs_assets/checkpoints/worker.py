"""One process of a training on several devices, which only ``workers`` starts."""

import sys
import traceback
from collections.abc import Sequence

from opencs_assets.checkpoints.train import read_training, train
from opencs_assets.checkpoints.workers import Reports
from resources.launcher.job import (
    EXIT_CRASH,
    EXIT_JOB_ERROR,
    EXIT_STOPPED,
    JobError,
    StoppedError,
    read_job,
)
from resources.processes import end_with_parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Do this process's share of the job; returns the exit status of a job."""
    end_with_parent()
    channel = Reports()
    job_file = (sys.argv[1:] if arguments is None else arguments)[0]
    try:
        channel.send("result", train(read_training(read_job([job_file])), channel))
    except (JobError, StoppedError) as error:
        channel.send("error", {"message": str(error)})
        return EXIT_JOB_ERROR if isinstance(error, JobError) else EXIT_STOPPED
    except Exception as error:
        traceback.print_exc()
        channel.send("error", {"message": f"{type(error).__name__}: {error}"})
        return EXIT_CRASH
    return 0


if __name__ == "__main__":
    sys.exit(main())
