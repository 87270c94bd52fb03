"""The rounds of kills: what is killed in which stage, and what came of it."""

import random
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

Target = Literal[
    "run",
    "run_worker",
    "daemon",
    "webserver",
    "ui",
    "embedded_server",
    "dbt",
    "warehouse_run",
    "training",
    "training_run",
]
Stage = Literal["select", "judge", "chain", "dataset", "landing", "tag", "warehouse", "train"]

# Number of rounds by target and stage; they take turns in this order, in which neighbours need the
# same homes, so that the few of a sample prepare few.
PLAN: tuple[tuple[Target, Stage, int], ...] = (
    ("run", "select", 4),
    ("training", "train", 3),
    ("training_run", "train", 3),
    ("dbt", "warehouse", 3),
    ("warehouse_run", "warehouse", 3),
    ("run", "judge", 2),
    ("run_worker", "dataset", 3),
    ("daemon", "landing", 3),
    ("webserver", "dataset", 3),
    ("ui", "landing", 3),
    ("run_worker", "landing", 3),
    ("daemon", "dataset", 3),
    ("webserver", "landing", 3),
    ("ui", "dataset", 3),
    ("embedded_server", "tag", 6),
    ("run", "chain", 2),
)
PROPERTY = "kill"


@dataclass(frozen=True)
class Round:
    """One kill.

    Attributes:
        number: Its number, from 1.
        target: What is killed.
        stage: What it works on; ``dataset`` and ``landing`` are started in the UI.
        seed: Seed of the moment.
    """

    number: int
    target: Target
    stage: Stage
    seed: int

    @property
    def name(self) -> str:
        """Name of the test case: ``round07-daemon-dataset``."""
        return f"round{self.number:02d}-{self.target}-{self.stage}"

    def random(self) -> random.Random:
        """What decides the moment: the same each time."""
        return random.Random(self.seed)


def _rounds() -> list[Round]:
    left = [[target, stage, count] for target, stage, count in PLAN]
    rounds: list[Round] = []
    while any(count for _, _, count in left):
        for entry in left:
            target, stage, count = entry
            if count:
                entry[2] = count - 1
                rounds.append(Round(len(rounds) + 1, target, stage, 1000 + len(rounds)))
    return rounds


ROUNDS = _rounds()


@dataclass
class Outcome:
    """A row of the table that the session ends with.

    Attributes:
        round: The round's number.
        killed: What was killed.
        where: Stage and moment.
        went_on_s: Seconds until it went on; of the UI, from when it answers again.
        in_flight: Calls that were being answered at the kill.
        repeated: Calls that were made again; ``None`` where nobody counts them.
        tables: Tables and checkpoints that are equal to the undisturbed run's, of how many.
    """

    round: int
    killed: str
    where: str = "not reached"
    went_on_s: float | None = None
    in_flight: int | None = None
    repeated: int | None = None
    tables: str = "not compared"


HEADINGS = ("round", "killed", "where", "went on after", "in flight", "repeated", "tables equal")


def as_property(outcome: Outcome) -> list[Any]:
    """The row as plain values, which a test's report carries from one process to another."""
    return list(astuple(outcome))


def table(rows: list[list[Any]]) -> list[str]:
    """The lines of the table.

    Args:
        rows: Rows as ``as_property`` gives them.
    """
    place = [field.name for field in fields(Outcome)].index("went_on_s")
    cells = [list(HEADINGS)]
    for row in sorted(rows):
        shown = ["-" if value is None else str(value) for value in row]
        if row[place] is not None:
            shown[place] = f"{row[place]:.1f} s"
        cells.append(shown)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
