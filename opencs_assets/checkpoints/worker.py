"""One process of a training on several devices; ``workers`` starts it, nobody else does."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from opencs_assets.checkpoints.train import read_training, train
from opencs_assets.checkpoints.workers import Reports
from resources.launcher.job import (
    EXIT_CRASH,
    EXIT_JOB_ERROR,
    EXIT_STOPPED,
    Channel,
    JobError,
    StoppedError,
    read_job,
)
from resources.processes import end_with_parent


class Silent(Channel):
    """The channel of the workers that repeat what the first one says."""

    def say(self, text: str) -> None:
        """Nothing: the first worker says it."""

    def send(self, kind: str, payload: object) -> None:
        """Nothing: the first worker sends it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do this process's share of the job; returns the exit status of ``external``."""
    end_with_parent()
    channel = Reports() if os.environ["RANK"] == "0" else Silent()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        channel.send("result", train(read_training(read_job([str(Path(given[0]))])), channel))
    except JobError as error:
        channel.send("error", {"message": str(error)})
        return EXIT_JOB_ERROR
    except StoppedError as error:
        channel.send("error", {"message": str(error)})
        return EXIT_STOPPED
    except Exception as error:
        traceback.print_exc()
        channel.send("error", {"message": f"{type(error).__name__}: {error}"})
        return EXIT_CRASH
    return 0


if __name__ == "__main__":
    sys.exit(main())
