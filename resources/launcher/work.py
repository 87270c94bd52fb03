"""What a launcher is asked to run, and what it says when that fails."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from resources.provenance import content_hash

# Kubernetes names a pod of several after the job, with an index and five characters.
LONGEST_NAME = 52
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Work:
    """A module and its job.

    Attributes:
        module: A module whose ``main`` is ``resources.launcher.job.run_job``.
        job: The job, as JSON values.
        tables: Tables that the job reads: each is written as Parquet, and its path stands in the
            job under its name.
        asset: Name of the asset that it makes.
        partition: The partition's key.
        provenance: Hash of all that determines what it makes: the same work has the same.
        parallel: Whether it can use several devices, and nodes: as ``processes`` and ``nodes``.
        places: Paths and URLs that it reads and writes, where it must be able to.
    """

    module: str
    job: Mapping[str, Any]
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    asset: str = ""
    partition: str = ""
    provenance: str = ""
    parallel: bool = False
    places: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name in messages: the module's last part."""
        return self.module.rsplit(".", 1)[-1]

    def job_name(self, place: str) -> str:
        """Name of its job: lower case letters, digits and hyphens; the same whichever run asks.

        Args:
            place: What tells the home's jobs from those of another home.
        """
        made = content_hash([place, self.asset, self.partition, self.provenance])[:12]
        words = re.sub(r"[^a-z0-9]+", "-", f"opencs-{self.asset}-{self.partition}".lower())
        return f"{words.strip('-')[: LONGEST_NAME - len(made) - 1].strip('-')}-{made}"


def result_of(messages: Messages) -> dict[str, Any] | None:
    """The result that a job reported, if it did."""
    found = [message for message in messages if message.get("kind") == "result"]
    return {name: value for name, value in found[-1].items() if name != "kind"} if found else None


def error_of(messages: Messages) -> tuple[str, bool] | None:
    """The last error that a job reported, and whether a repeat could not mend it."""
    found = [message for message in messages if message.get("kind") == "error"]
    return (str(found[-1]["message"]), bool(found[-1]["final"])) if found else None


def last_line(text: str) -> str | None:
    """The last line of a log that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def failure(work: Work, text: str, *, final: bool, **metadata: Any) -> dg.Failure:
    """The failure of a work, in one sentence.

    Args:
        work: What failed.
        text: Why.
        final: Whether a repeat can't mend it.
        metadata: What else stands with the failure.
    """
    return dg.Failure(
        description=f"{work.name}: {' '.join(text.split())}",
        metadata={"module": work.module, **metadata},
        allow_retries=not final,
    )
