"""Selectors, base models, recipes, experiments and matchups, as declared in ``experiments.yaml``.

Outside models, endpoints that serve checkpoints and the benchmarks to answer are declared there
too.

The files of ``experiments.d`` in the home, in the order of their names, and then the user's
``experiments.yaml`` there are laid over the package's own file: an entry with a new name is added,
one with a known name replaces the entry before, and an empty one removes it. Every entry is typed
and checked before anything runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from opencs_assets.config.matchup_blocks import (
    DEFAULT_BENCHMARK,
    BlockError,
    MatchupBlock,
    Parity,
    expand_blocks,
)
from opencs_assets.config.recipes import Recipe
from resources.errors import InternalError, MendableError
from resources.settings import Criterion, LengthUnit, Profile, Role

PACKAGED = Path(__file__).parent / "experiments.yaml"
OWN = "experiments.yaml"
FURTHER = "experiments.d"
BUDGETS = frozenset({"epochs", "steps", "tokens"})
# These are lists of benchmarks' names; everything else is entries by name.
LISTS = frozenset({"benchmarks", "judged_alone"})
NAME_PATTERN = r"^[a-z0-9][a-z0-9_.@-]*$"


class ExperimentsError(MendableError):
    """``experiments.yaml`` can't be used; the message names file, entry and reason."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Selector(_Entry):
    """A way to choose a subset.

    Attributes:
        method: Name in the selector registry.
        k: Samples to choose; by default the method settings' or else the profile's.
        quota: Samples from one cluster; by default the method settings' or else the profile's.
        seed: Seed; by default the method settings'.
        profile: Profile whose rules of choice it follows (k, quota, refilling, which of a sample's
            clusters count); by default the settings'. It does not change which samples are scored.
        refine: Whether the chosen samples are refined: a better response, then a better
            instruction for it.
        file: The set that was chosen elsewhere, for method ``fixed``; relative to the home.
        criterion: Which single score ``alpagasus`` and ``no_contrast`` read.
        length: What ``longest`` counts a response in; tokens are those of GPT-4.
        export: Folder that its files are written to, in ``exports/<dataset>`` of the home; by
            default the selector's name.
    """

    method: str
    k: int | None = Field(None, ge=1)
    quota: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, lt=2**31)
    profile: Profile | None = None
    refine: bool = False
    file: Path | None = None
    criterion: Criterion = "helpfulness"
    length: LengthUnit = "characters"
    export: str | None = Field(None, pattern=NAME_PATTERN)

    @model_validator(mode="after")
    def _file_of_fixed(self) -> "Selector":
        if (self.method == "fixed") != (self.file is not None):
            raise ValueError(
                "method fixed needs the file of the set, as in {method: fixed, file: lima.jsonl}"
                if self.method == "fixed"
                else f"only method fixed reads a file, not {self.method}"
            )
        return self


class BaseModelEntry(_Entry):
    """A model to fine-tune.

    Attributes:
        source: ``embedded`` (SmolLM2-135M), or a Hugging Face name or folder.
        chat_template: The template to train with: one of the package's by name, or a file relative
            to the home; by default the model's own.
        recipe: Recipe of experiments that name none.
    """

    source: str
    chat_template: str | None = None
    recipe: str | None = None


class Experiment(_Entry):
    """A base model that is trained on a selector's subset by a recipe."""

    selector: str
    base_model: str
    recipe: str


class Matrix(_Entry):
    """A block of experiments: every selector with every base model, named selector@base_model.

    All have the ``recipe``, or else each that of its base model.
    """

    selectors: tuple[str, ...]
    base_models: tuple[str, ...]
    recipe: str | None = None


class DeclaredEndpoint(_Entry):
    """Where an experiment's checkpoint is served, so that its answers come from there.

    It must serve that checkpoint by OpenAI's completions protocol, as vLLM does:
    ``vllm serve <the checkpoint's folder> --served-model-name <model>``.

    Attributes:
        base_url: Base URL, such as ``http://vllm:8000/v1``.
        model: Name that it knows the checkpoint by; ``{dataset}`` and ``{experiment}`` stand for
            those of the partition.
        api_key_env: Environment variable that holds its key, if it needs one.
        concurrency: Most requests in flight at once.
        timeout_s: Deadline of one request, in seconds.
    """

    base_url: str = Field(pattern=r"^https?://")
    model: str = "{dataset}/{experiment}"
    api_key_env: str | None = None
    concurrency: int = Field(64, ge=1)
    timeout_s: float = Field(600.0, gt=0)


class OutsideModel(Role):
    """A model that is not trained here, such as GPT-4 as a baseline; it is configured like a role.

    The benchmark decides the temperature and the length of its answers.
    """

    @model_validator(mode="before")
    @classmethod
    def _sampling_is_the_benchmarks(cls, fields: Any) -> Any:
        for name in ("temperature", "max_tokens", "reading", "structured"):
            if isinstance(fields, Mapping) and name in fields:
                raise ValueError(f"{name} can't be set: how it answers is the benchmark's")
        return fields


class Matchup(_Entry):
    """Two experiments, or an experiment and an outside model, compared on one benchmark.

    Attributes:
        model_a: An experiment, or an outside model.
        model_b: Another one; one of the two must be an experiment.
        benchmark: Benchmark whose questions both answer.
        parity: Budget in which the two are equal: both recipes must give the same number of
            ``epochs``, ``steps`` or ``tokens``. With ``declared``, each side has the budget of its
            own recipe, as for the whole set, and results say so.
        block: The block that made it; people do not write it.
    """

    model_a: str
    model_b: str
    benchmark: str = DEFAULT_BENCHMARK
    parity: Parity = "epochs"
    block: str | None = None


class Experiments(_Entry):
    """Everything that is declared.

    Attributes:
        selectors: Ways to choose a subset.
        base_models: Models to fine-tune.
        recipes: How checkpoints are trained.
        matrix: Blocks of experiments.
        experiments: Models that are trained, those of the matrix among them.
        matchups: Comparisons of two models, those of blocks among them.
        matchup_blocks: Blocks of matchups.
        outside_models: Models that are not trained here.
        endpoints: Servers of checkpoints by experiment; an experiment without one answers from its
            checkpoint's files.
        benchmarks: Benchmarks that models answer; by default all that the home has.
        judged_alone: Those of these benchmarks whose answers are judged alone as well; by default
            all.
    """

    selectors: dict[str, Selector]
    base_models: dict[str, BaseModelEntry]
    recipes: dict[str, Recipe]
    matrix: dict[str, Matrix] = {}
    experiments: dict[str, Experiment]
    matchups: dict[str, Matchup]
    matchup_blocks: dict[str, MatchupBlock] = {}
    outside_models: dict[str, OutsideModel] = {}
    endpoints: dict[str, DeclaredEndpoint] = {}
    benchmarks: tuple[str, ...] | None = None
    judged_alone: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _names_resolve(self) -> "Experiments":
        import re

        for kind in type(self).model_fields:
            for name in getattr(self, kind) or ():
                if not re.match(NAME_PATTERN, name):
                    raise ValueError(
                        f"{kind}.{name}: a name has lower-case letters, digits and _ . @ - only"
                    )
        references = [
            (f"experiments.{name}.{attribute}", getattr(entry, attribute), table)
            for name, entry in self.experiments.items()
            for attribute, table in (
                ("selector", self.selectors),
                ("base_model", self.base_models),
                ("recipe", self.recipes),
            )
        ] + [
            (f"matchups.{name}.{attribute}", getattr(entry, attribute), self.sides)
            for name, entry in self.matchups.items()
            for attribute in ("model_a", "model_b")
        ]
        references += [(f"endpoints.{name}", name, self.experiments) for name in self.endpoints]
        for where, name, table in references:
            if name not in table:
                raise ValueError(f"{where}: there is no {name!r}; known: {', '.join(table)}")
        folders: dict[str, str] = {}
        for name, selector in self.selectors.items():
            folder = selector.export or name
            if folder in folders:
                raise ValueError(
                    f"selectors.{name} and selectors.{folders[folder]} would both be exported to "
                    f"{folder!r}; give one of them another `export`"
                )
            folders[folder] = name
        for name, entry in self.matchups.items():
            if entry.model_a == entry.model_b:
                raise ValueError(f"matchups.{name}: both sides are {entry.model_a!r}")
            if {entry.model_a, entry.model_b} <= set(self.outside_models):
                raise ValueError(f"matchups.{name}: one side must be an experiment")
            if self.benchmarks is not None and entry.benchmark not in self.benchmarks:
                raise ValueError(
                    f"{_place(name, entry)}.benchmark: {entry.benchmark!r} is not among "
                    f"`benchmarks` ({', '.join(self.benchmarks)}), so nobody answers it"
                )
            self._parity_holds(name, entry)
        for name in self.judged_alone or ():
            if self.benchmarks is not None and name not in self.benchmarks:
                raise ValueError(
                    f"judged_alone: {name!r} is not among `benchmarks` "
                    f"({', '.join(self.benchmarks)}), so nobody answers it"
                )
        for name in self.outside_models:
            if name in self.experiments:
                raise ValueError(f"outside_models.{name}: an experiment has this name")
        return self

    @property
    def sides(self) -> Mapping[str, Experiment | OutsideModel]:
        """The experiments and outside models that may be sides of a matchup."""
        return {**self.experiments, **self.outside_models}

    def judges_alone(self, benchmark: str) -> bool:
        """Whether a benchmark's answers are judged alone."""
        return self.judged_alone is None or benchmark in self.judged_alone

    def asked_of(self, outside_model: str) -> tuple[str, ...] | None:
        """Benchmarks that an outside model answers: those of its matchups, as answers cost money.

        A model in no matchup answers those that experiments answer (``None``: all of the home).
        """
        of_matchups = [
            entry.benchmark
            for entry in self.matchups.values()
            if outside_model in (entry.model_a, entry.model_b)
        ]
        return tuple(dict.fromkeys(of_matchups)) or self.benchmarks

    def _parity_holds(self, name: str, matchup: Matchup) -> None:
        budgets = [
            self.recipes[self.experiments[model].recipe].budget
            for model in (matchup.model_a, matchup.model_b)
            if model in self.experiments
        ]
        # The training of an outside model is unknown.
        if matchup.parity == "declared" or len(budgets) < 2:
            return
        if budgets[0] != budgets[1] or budgets[0][0] != matchup.parity:
            sides = " and ".join(f"{amount:g} {unit}" for unit, amount in budgets)
            remedy = (
                f"write `parity: {budgets[0][0]}`"
                if budgets[0] == budgets[1]
                else "give both the same budget, or write `parity: declared`"
            )
            raise ValueError(
                f"{_place(name, matchup)}: parity {matchup.parity} needs recipes of the same "
                f"number of {matchup.parity}, but they give {sides}; {remedy}"
            )


def _place(name: str, matchup: Matchup) -> str:
    """The place of a matchup's declaration, for messages."""
    return f"matchup_blocks.{matchup.block} ({name})" if matchup.block else f"matchups.{name}"


def load_experiments(home: Path, further: Sequence[Path] = ()) -> Experiments:
    """Read the packaged entries and the home's own over them.

    Args:
        home: The home; its ``experiments.yaml`` and ``experiments.d`` may be absent.
        further: Files to read as if they were in ``experiments.d``; they replace files of the same
            name there.

    Raises:
        ExperimentsError: A file is not YAML, or an entry is unknown, invalid or refers to nothing.
    """
    laid = {path.name: path for path in (*(home / FURTHER).glob("*.yaml"), *further)}
    own = home / OWN
    files = [*(laid[name] for name in sorted(laid)), *([own] if own.exists() else [])]
    merged = _read(PACKAGED)
    for path in files:
        _lay_over(merged, path, adding=path != own)
    try:
        return Experiments.model_validate(_expanded(merged))
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
    except (BlockError, _LikeError) as error:
        lines = [f"  {error}"]
    raise ExperimentsError(
        f"experiments are not usable ({', '.join(map(str, files or [PACKAGED]))}):\n"
        + "\n".join(lines)
    )


def _lay_over(merged: dict[str, Any], path: Path, *, adding: bool) -> None:
    """Lay a file's entries over the merged ones; an empty entry removes the one of its name.

    A list of benchmarks extends the list before it with ``adding``, for ``experiments.d``, and
    else replaces it, for the user's own file.
    """
    for kind, entries in _read(path).items():
        if kind in LISTS:
            before = merged.get(kind, ()) if adding else ()
            merged[kind] = [*before, *(name for name in entries if name not in before)]
            continue
        merged_entries = {**merged.get(kind, {})}
        for name, entry in entries.items():
            if entry is None and merged_entries.pop(name, None) is None:
                raise ExperimentsError(
                    f"{path}: {kind}.{name} is empty, which removes an entry, but there is none"
                )
            if entry is not None:
                merged_entries[name] = entry
        merged[kind] = merged_entries


def _expanded(merged: dict[str, Any]) -> dict[str, Any]:
    """Complete entries from others; values of a wrong form are left for validation to report.

    A recipe's ``like`` names another one whose values it takes where it has none; ``matrix`` makes
    the experiments of all its selectors with all its base models, unless they are declared; an
    experiment without a recipe has its base model's; ``matchup_blocks`` make matchups.
    """
    recipes = merged.get("recipes", {})
    experiments = {
        f"{selector}@{model}": {
            "selector": selector,
            "base_model": model,
            **({"recipe": block["recipe"]} if "recipe" in block else {}),
        }
        for block in merged.get("matrix", {}).values()
        if isinstance(block, Mapping)
        for model in block.get("base_models", ())
        for selector in block.get("selectors", ())
    } | merged.get("experiments", {})
    models = merged.get("base_models", {})
    for name, entry in experiments.items():
        if isinstance(entry, Mapping) and entry.get("recipe") is None:
            model = models.get(entry.get("base_model"))
            own = model.get("recipe") if isinstance(model, Mapping) else None
            if own is not None:
                experiments[name] = {**entry, "recipe": own}
    matchups = merged.get("matchups", {})
    for name, entry in matchups.items():
        if isinstance(entry, Mapping) and "block" in entry:
            raise BlockError(
                f"matchups.{name}.block can't be set; put a block under `matchup_blocks`"
            )
    of_blocks = expand_blocks(
        merged.get("matchup_blocks", {}),
        {
            name: entry.get("base_model") if isinstance(entry, Mapping) else None
            for name, entry in experiments.items()
        },
        merged.get("outside_models", {}),
        matchups,
    )
    return {
        **merged,
        "recipes": {name: _like(name, recipes, ()) for name in recipes},
        "experiments": experiments,
        "matchups": {**matchups, **of_blocks},
    }


class _LikeError(InternalError):
    """A recipe's ``like`` can't be followed."""


def _like(name: str, recipes: Mapping[str, Any], seen: tuple[str, ...]) -> Any:
    entry = recipes[name]
    if not isinstance(entry, Mapping) or "like" not in entry:
        return entry
    other = entry["like"]
    if other not in recipes or other in (*seen, name):
        problem = "itself in the end" if other in recipes else "no recipe"
        raise _LikeError(f"recipes.{name}.like: {other!r} is {problem}")
    own = {key: value for key, value in entry.items() if key != "like"}
    base = _like(other, recipes, (*seen, name))
    if {"epochs", "steps", "tokens"} & own.keys():
        base = {
            key: value for key, value in base.items() if key not in {"epochs", "steps", "tokens"}
        }
    return {**base, **own}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(entries, list if kind in LISTS else Mapping) for kind, entries in content.items()
    ):
        raise ExperimentsError(
            f"{path}: the top level must be selectors, base_models, recipes, matrix, experiments, "
            "matchups, matchup_blocks, outside_models and endpoints, each a mapping of names to "
            "entries, and benchmarks and judged_alone, each a list of names"
        )
    return {kind: entries if kind in LISTS else dict(entries) for kind, entries in content.items()}
