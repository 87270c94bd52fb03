"""The published grid of experiments, and what must be there before it can be run.

OpenCS (arXiv 2507.03673) trained three base models on the whole set and on subsets of 1,000 samples
by OpenCS and Longest (also refined), AlpaGasus, LIMA, random and k-center. On five test sets it was
compared with the four baselines of its table (the whole set, LIMA, AlpaGasus and Longest), and
refined OpenCS with refined Longest; on MT-Bench each model is judged alone. The grid leaves out the
ablations, as comparing the whole set costs many times as much as everything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from opencs_assets.benchmarks.questions import find_benchmarks
from opencs_assets.config.benchmarks import DECLARED
from opencs_assets.config.experiments import FURTHER, Experiments, Selector, load_experiments
from opencs_assets.datasets import catalog
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.tables.lake import Lake
from resources.errors import MendableError
from resources.files import SHARED, write_whole
from resources.settings import Settings

FOLDER = Path(__file__).parent / "reproductions"
Scale = Literal["published", "small"]
SMALL_ROWS = 200
# This selects all assets but those that only the ablation without clusters reads.
SELECTION = "not (key:whole_set_scores or key:whole_set_comparisons)"
# The models of the published runs.
PUBLISHED_MODELS = {
    "tagger": "gpt-4o-mini",
    "scorer": "gpt-4o",
    "refiner": "gpt-4o",
    "judge": "gpt-4",
}


class ReproductionError(MendableError):
    """The published grid can't be run; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Published:
    """A dataset of the published grid.

    Attributes:
        title: Name for a person.
        samples: Number of samples.
        instruction: Mean characters of an instruction.
        response: Mean characters of a response.
        source: Where the dataset is published.
    """

    title: str
    samples: int
    instruction: int
    response: int
    source: str


DATASETS: Mapping[str, Published] = {
    "alpaca": Published(
        "Alpaca-52k", 52_002, 83, 270, "alpaca_data.json of github.com/tatsu-lab/stanford_alpaca"
    ),
    # Lengths are those of the published selection of 1,000.
    "evol_instruct": Published(
        "Evol-Instruct-70k", 70_000, 500, 1_450, "WizardLM_evol_instruct_70k of Hugging Face"
    ),
}


@dataclass(frozen=True)
class Grid:
    """The experiments and matchups of a grid.

    Attributes:
        declared_in: The file that declares the grid: the home's, or else the package's.
        target: Where the file must be in the home, so that runs and UI see the same partitions.
        experiments: All declarations of the home and the grid.
        names: Names of the grid's experiments.
        matchups: Names of the matchups between them.
    """

    declared_in: Path
    target: Path
    experiments: Experiments
    names: tuple[str, ...]
    matchups: tuple[str, ...]

    @property
    def is_declared(self) -> bool:
        """Whether the home has the grid's file."""
        return self.declared_in == self.target

    @property
    def selectors(self) -> dict[str, Selector]:
        """Selectors of its experiments, by name."""
        declared = self.experiments
        names = dict.fromkeys(declared.experiments[name].selector for name in self.names)
        return {name: declared.selectors[name] for name in names}

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Benchmarks that its models answer."""
        declared = self.experiments.benchmarks or ()
        of_matchups = (self.experiments.matchups[name].benchmark for name in self.matchups)
        return tuple(dict.fromkeys([*declared, *of_matchups]))


@dataclass(frozen=True)
class Need:
    """Something that the grid needs.

    Attributes:
        what: Name of the thing.
        is_here: Whether it is there; ``None`` where this is not checked, or is no condition.
        remedy: How to get it, or a note on it.
    """

    what: str
    is_here: bool | None
    remedy: str

    def row(self) -> dict[str, str]:
        """A flat record for a table."""
        state = {True: "here", False: "missing", None: "note"}[self.is_here]
        return {"what": self.what, "state": state, "how": "" if self.is_here else self.remedy}


def load_grid(home: Path, scale: Scale = "published", base_models: Sequence[str] = ()) -> Grid:
    """The grid as the home declares it, or as the package would declare it there.

    Args:
        home: The home.
        scale: ``published``, or ``small``, which the embedded models can run.
        base_models: The base models to take; by default all of the grid.

    Raises:
        ExperimentsError: The home's own declarations contradict the grid's.
        ReproductionError: The grid has no such base model.
    """
    target = home / FURTHER / f"{scale}.yaml"
    source = target if target.exists() else FOLDER / f"{scale}.yaml"
    experiments = load_experiments(home, [source])
    content = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    declared = [
        f"{selector}@{model}"
        for block in content.get("matrix", {}).values()
        for model in block["base_models"]
        for selector in block["selectors"]
    ] + list(content.get("experiments", {}))
    of_model: dict[str, list[str]] = {}
    for name in declared:
        # Experiments that the user's own file removed are not run.
        if name in experiments.experiments:
            of_model.setdefault(experiments.experiments[name].base_model, []).append(name)
    for model in base_models:
        if model not in of_model:
            raise ReproductionError(
                f"the grid has no base model {model!r}; it has {', '.join(of_model)}"
            )
    names = [name for model in base_models or of_model for name in of_model[model]]
    return Grid(
        declared_in=source,
        target=target,
        experiments=experiments,
        names=tuple(names),
        matchups=tuple(
            name
            for name, matchup in experiments.matchups.items()
            if {matchup.model_a, matchup.model_b} <= set(names)
        ),
    )


def declare(grid: Grid) -> None:
    """Write the grid's file into the home, where everything that reads experiments finds it."""
    if grid.is_declared:
        return
    grid.target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(grid.target, grid.declared_in.read_bytes(), SHARED)


def needs(grid: Grid, settings: Settings, name: str, dataset: str, limit: int | None) -> list[Need]:
    """The things that must be there before the grid can be run, and notes.

    ``name`` is that of the published dataset, ``dataset`` its name in the home.
    """
    home = settings.home
    known = DATASETS[name]
    needs_of_grid = [
        Need(
            f"dataset {dataset}",
            source_of(home, dataset) is not None,
            f"get {known.source}, then `opencs add FILE --name {dataset}`",
        )
    ]
    for selector in grid.selectors.values():
        if selector.file is not None:
            path = home / selector.file.expanduser()
            needs_of_grid.append(
                Need(
                    f"file {selector.file}",
                    path.is_file(),
                    f"put the 1,000 samples of LIMA's training set (GAIR/lima of Hugging Face) "
                    f"there: {path}",
                )
            )
    there = find_benchmarks(home)
    for benchmark in grid.benchmarks:
        remedy = (
            f"`opencs benchmarks fetch {benchmark}`"
            if benchmark in DECLARED
            else f"put its questions into {home / 'benchmarks' / benchmark}.jsonl"
        )
        needs_of_grid.append(Need(f"benchmark {benchmark}", benchmark in there, remedy))
    rows = _rows_there(settings, dataset)
    if limit is not None and rows > limit:
        needs_of_grid.append(
            Need(
                f"a home of its own for {limit} rows",
                False,
                f"{rows:,} samples of {dataset} have been read here, which the first {limit} "
                "would replace: set OPENCS_HOME to another folder, or give another --dataset",
            )
        )
    models = {grid.experiments.experiments[experiment].base_model for experiment in grid.names}
    for base_model in sorted(models):
        source = grid.experiments.base_models[base_model].source
        if source != "embedded":
            needs_of_grid.append(
                Need(
                    f"base model {base_model}",
                    None,
                    f"`hf download {source}` where it is trained, or training.download = true",
                )
            )
    if grid.target.name.startswith("published"):
        for role, published in PUBLISHED_MODELS.items():
            model = getattr(settings.roles, role).model_label
            if model != published:
                needs_of_grid.append(
                    Need(f"role {role}", None, f"is {model}; the published runs asked {published}")
                )
    return needs_of_grid


def source_of(home: Path, dataset: str) -> catalog.Source | None:
    """The dataset's file; ``None`` where it has not been added."""
    catalog.check_name(dataset)
    try:
        return catalog.current_source(home, dataset)
    except DatasetError:
        return None


def _rows_there(settings: Settings, dataset: str) -> int:
    samples = Lake(settings.lake).find("raw_dataset", {"dataset": dataset})
    return 0 if samples is None else samples.height
