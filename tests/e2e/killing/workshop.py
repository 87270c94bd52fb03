"""Where the rounds' homes are made: each stage's home before it, and after an undisturbed run."""

import itertools
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from tests.e2e.killing.homes import (
    DATASET,
    EXPERIMENTS,
    copy_home,
    write_home,
    write_samples,
)
from tests.e2e.killing.model import CountingModel
from tests.e2e.killing.processes import Command, ended_after, wait_until
from tests.e2e.killing.rounds import Stage
from tests.e2e.killing.ui import JOB, Ui, free_port
from tests.integration.training.conftest import make_tiny_model

ROWS = 18
# The embedded model takes its time for each.
EMBEDDED_ROWS = 6
# Longest that any command may take here.
COMMAND_S = 400
LATENCY_S = 0.1
_BOTH = tuple(word for name in EXPERIMENTS for word in ("--experiment", name))
_SLOW = "key:whole_set_scores or key:whole_set_comparisons or key:refined_samples"
_VERDICTS = "key:single_verdicts or key:pairwise_verdicts"
_OF_DATASET = ("--dataset", DATASET)
WORDS: dict[Stage, tuple[str, ...]] = {
    "select": ("materialize", "*selected_subset", *_OF_DATASET, "--selector", "opencs"),
    "judge": ("materialize", _VERDICTS, *_OF_DATASET, *_BOTH),
    "chain": ("materialize", f"not ({_SLOW})", *_OF_DATASET, *_BOTH),
    "tag": ("materialize", "*open_tags", *_OF_DATASET),
    "warehouse": ("materialize", "group:evaluation"),
    "train": ("materialize", "checkpoint", *_OF_DATASET, "--experiment", EXPERIMENTS[0]),
}
_TO_ANSWERS = (
    "materialize",
    f"not (group:evaluation or {_SLOW} or {_VERDICTS})",
    *_OF_DATASET,
    *_BOTH,
)
_AUTOMATION = """{ sensorsOrError(repositorySelector:
{repositoryName: "__repository__", repositoryLocationName: "definitions"})
{ ... on Sensors { results { name id } } } }"""
_STOP = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"


@dataclass(frozen=True)
class Undisturbed:
    """A run of a stage that nothing disturbed.

    Attributes:
        home: The home after it.
        calls: Calls that the model got.
        lines: What was printed, line by line.
    """

    home: Path
    calls: int
    lines: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps that were begun."""
        return sum(line.startswith("▸ ") for line in self.lines)

    def seconds(self, table: str) -> float:
        """Seconds of the step that made a table."""
        for line in self.lines:
            took = re.search(r" in ([\d.]+) s$", line)
            if line.startswith("✓ ") and re.search(rf"\b{table}\b", line) and took:
                return float(took[1])
        raise AssertionError(f"no step made {table}: {self.lines}")


class Workshop:
    """Homes by stage, each made when it is first wanted.

    Args:
        root: Folder of all homes.
        models: Folder of the embedded models.
        model: The server that the roles call.
    """

    def __init__(self, root: Path, models: Path, model: CountingModel) -> None:
        self.root = root
        self.model = model
        self._models = models
        self._numbers = itertools.count()
        self._homes: dict[str, Path] = {}
        self._printed: dict[Path, tuple[str, ...]] = {}
        self._undisturbed: dict[Stage, Undisturbed] = {}

    def prepared(self, stage: Stage) -> Path:
        """The home in which a stage is next; it is copied, never worked in."""
        return self._made(f"before-{stage}", lambda: self._prepare(stage))

    def copy(self, stage: Stage) -> Path:
        """A new home in which a stage is next."""
        return self._copy(self.prepared(stage), f"{stage}-round")

    def undisturbed(self, stage: Stage) -> Undisturbed:
        """The stage's run that nothing disturbed."""
        if stage not in self._undisturbed:
            self._undisturbed[stage] = self._run_undisturbed(stage)
        return self._undisturbed[stage]

    def command(self, home: Path, words: tuple[str, ...]) -> Command:
        """Start a command line in a home."""
        return Command(home, words, home / f"command-{next(self._numbers)}.log")

    def done(self, home: Path, words: tuple[str, ...]) -> Path:
        """Run a command line to its good end."""
        with ended_after(home):
            command = self.command(home, words)
            assert command.wait(COMMAND_S) == 0, command.report()
        self._printed[home] = tuple(command.lines)
        return home

    def ui(self, home: Path, port: int | None = None) -> Ui:
        """Start ``opencs ui`` in a home."""
        return Ui(home, home / f"ui-{next(self._numbers)}.log", port or free_port())

    def samples(self) -> Path:
        """The dataset's file."""
        return self._made("small.jsonl", lambda: write_samples(self.root / "small.jsonl", ROWS))

    def land(self, home: Path) -> None:
        """Drop the dataset's file into a home's landing folder, whole."""
        (home / "landing").mkdir(exist_ok=True)
        part = home / "landing" / f"{DATASET}.jsonl.part"
        shutil.copyfile(self.samples(), part)
        part.rename(part.with_suffix(""))

    def blank(self, name: str) -> Path:
        """A new home with settings and nothing else."""
        home = self.root / f"{name}-{next(self._numbers)}"
        return write_home(home, self._models, self._base_model(), self.model.url)

    def untrained(self, name: str) -> Path:
        """A new home with the dataset, for tests that train nothing: no base model is made."""
        home = self.root / f"{name}-{next(self._numbers)}"
        write_home(home, self._models, "embedded", self.model.url)
        return self.done(home, ("add", str(self.samples())))

    def added(self) -> Path:
        """The home with the dataset, and nothing made of it."""
        return self._made(
            "added", lambda: self.done(self.blank("added"), ("add", str(self.samples())))
        )

    def _prepare(self, stage: Stage) -> Path:
        if stage in ("select", "chain"):
            return self.added()
        if stage == "tag":
            home = write_home(self.root / "embedded", self._models, "embedded", None)
            few = write_samples(self.root / "few.jsonl", EMBEDDED_ROWS)
            return self.done(home, ("add", str(few), "--name", DATASET))
        if stage == "landing":
            return self._without_automation(self.blank("landing"))
        if stage == "dataset":
            home = self._copy(self.prepared("landing"), "dataset")
            return self.done(home, ("add", str(self.samples())))
        if stage == "train":
            return self.undisturbed("select").home
        if stage == "judge":
            return self._answered()
        return self.undisturbed("judge").home

    def _answered(self) -> Path:
        def make() -> Path:
            self.model.reset(0.0)
            return self.done(self._copy(self.added(), "answered"), _TO_ANSWERS)

        return self._made("answered", make)

    def _run_undisturbed(self, stage: Stage) -> Undisturbed:
        if stage in ("dataset", "landing"):
            return self._run_in_ui()
        if stage == "chain":
            # The same runs, one command after the other.
            parts = [self.undisturbed(part) for part in ("select", "judge", "warehouse")]
            lines = (*self._printed[self._answered()], *parts[1].lines, *parts[2].lines)
            return Undisturbed(parts[-1].home, sum(part.calls for part in parts), lines)
        home = self._copy(self.prepared(stage), f"{stage}-undisturbed")
        self.model.reset(LATENCY_S)
        self.done(home, WORDS[stage])
        return Undisturbed(home, self.model.count(), self._printed[home])

    def _run_in_ui(self) -> Undisturbed:
        for known in ("dataset", "landing"):
            if known in self._undisturbed:
                return self._undisturbed[known]
        home = self._copy(self.prepared("landing"), "ui-undisturbed")
        self.model.reset(LATENCY_S)
        with ended_after(home):
            ui = self.ui(home)
            ui.wait()
            self.land(home)
            ui.command.until(
                lambda: any(
                    run["jobName"] == JOB and run["status"] == "SUCCESS" for run in ui.runs()
                ),
                COMMAND_S,
                "the dataset's run",
            )
        return Undisturbed(home, self.model.count())

    def _without_automation(self, home: Path) -> Path:
        """Switch the automation off, as a person does: a round compares what one run makes."""
        with ended_after(home):
            ui = self.ui(home)
            ui.wait()
            (automation,) = [
                sensor["id"]
                for sensor in ui.ask(_AUTOMATION)["sensorsOrError"]["results"]
                if sensor["name"] == "automation"
            ]
            answer = ui.ask(_STOP, id=automation)["stopSensor"]
            assert answer["__typename"] == "StopSensorMutationResult", answer
            with open_instance(home) as instance:
                states = wait_until(instance.all_instigator_state, 10, "the sensor's state")
            assert "automation" in {state.instigator_name for state in states}
        return home

    def _base_model(self) -> Path:
        def make() -> Path:
            folder = self.root / "base-model"
            folder.mkdir()
            make_tiny_model(self._models, folder)
            return folder

        return self._made("base-model", make)

    def _copy(self, home: Path, name: str) -> Path:
        return copy_home(home, self.root / f"{name}-{next(self._numbers)}")

    def _made(self, name: str, make: Callable[[], Path]) -> Path:
        if name not in self._homes:
            self._homes[name] = make()
        return self._homes[name]


def open_instance(home: Path) -> dg.DagsterInstance:
    """A home's Dagster instance; the environment stays as it is."""
    return dg.DagsterInstance.from_config(str(home / "dagster"))
