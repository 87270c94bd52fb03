"""What a launcher is asked to run, and what it says when that fails."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from resources.provenance import content_hash

# Longest name of a job: Kubernetes adds an index and five characters for the names of its pods.
LONGEST_NAME = 52


@dataclass(frozen=True)
class Work:
    """A module with a job, and the asset's partition that it makes.

    Each table is written as Parquet, and its path stands in the job under its name. A parallel work
    can use several devices and nodes, whose numbers stand there as ``processes`` and ``nodes``.
    """

    module: str  # one whose ``main`` is ``resources.launcher.job.run_job``
    job: Mapping[str, Any]  # as JSON values
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    asset: str = ""
    partition: str = ""
    provenance: str = ""  # hash of all that determines what is made; equal works have equal ones
    parallel: bool = False
    places: Sequence[str] = ()  # paths and URLs that it must be able to read and write

    @property
    def name(self) -> str:
        """Name in messages: the module's last part."""
        return self.module.rsplit(".", 1)[-1]

    def job_name(self, place: str) -> str:
        """Name of its job, which is the same whichever run asks.

        It is made of lower case letters, digits and hyphens; ``place`` tells the home's jobs from
        those of another home.
        """
        digest = content_hash([place, self.asset, self.partition, self.provenance])[:12]
        words = re.sub(r"[^a-z0-9]+", "-", f"opencs-{self.asset}-{self.partition}".lower())
        return f"{words.strip('-')[: LONGEST_NAME - len(digest) - 1].strip('-')}-{digest}"


def last_line(text: str) -> str | None:
    """The last line of a log that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def failure(work: Work, text: str, *, final: bool, **metadata: Any) -> dg.Failure:
    """The failure of a work for a reason, in one sentence; a final one is not retried."""
    return dg.Failure(
        description=f"{work.name}: {' '.join(text.split())}",
        metadata={"module": work.module, **metadata},
        allow_retries=not final,
    )
