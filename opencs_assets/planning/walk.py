"""Materializing a selection: which runs it takes, in which order, and running them here.

Assets of different partition families can't be in one run, so a selection becomes one run a family
and partition, in the order of the families.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run
from dagster._core.utils import make_new_run_id

from opencs_assets.config.experiments import Experiments
from opencs_assets.selection.registry import METHODS
from opencs_assets.wiring.jobs import WAREHOUSE, family_assets, graph_tags
from opencs_assets.wiring.partitions import DATASET
from resources.errors import MendableError
from resources.runs.dead import STARTED_BY_HAND_TAG, note_process


class PlanError(MendableError):
    """The selection can't be planned; the message says what to give."""


@dataclass(frozen=True)
class Step:
    """One run.

    Attributes:
        family: The partition family.
        job: Its job.
        partition: Partition key; ``None`` for an unpartitioned family.
        assets: Assets to materialize.
    """

    family: str
    job: str
    partition: str | None
    assets: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """What became of one run.

    Attributes:
        step: The run's step.
        run_id: Its id in the instance.
        error: What failed, in one message; ``None`` if all went well.
        seconds: Seconds of each asset's computation, by step name, and of all checks together.
    """

    step: Step
    run_id: str
    error: str | None
    seconds: dict[str, float]


def plan(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    experiments: Experiments,
    selection: str,
    *,
    datasets: Sequence[str] = (),
    selectors: Sequence[str] = (),
    chosen_experiments: Sequence[str] = (),
    chosen_matchups: Sequence[str] | None = None,
    everything: bool = False,
) -> list[Step]:
    """The runs that materialize a selection.

    Args:
        defs: The platform's definitions.
        instance: The instance that knows the datasets.
        experiments: What is declared.
        selection: Assets in Dagster's selection syntax, such as ``*selected_subset``.
        datasets: Datasets; unset: the only one, or with ``everything`` all.
        selectors: Selectors; unset: those of the experiments, or with ``everything`` all.
        chosen_experiments: Experiments; unset: with ``everything`` all.
        chosen_matchups: Matchups; unset: all between the experiments, and with outside models.
        everything: Take every partition that is not narrowed down.

    Raises:
        PlanError: Nothing is selected, a name is unknown, or it is unclear which partitions.
    """
    graph = defs.resolve_asset_graph()
    try:
        keys = dg.AssetSelection.from_string(selection).resolve(graph)
    except (dg.DagsterError, ValueError):
        known_assets = ", ".join(sorted(key.to_user_string() for key in graph.get_all_asset_keys()))
        raise PlanError(
            f"{selection!r} is not a selection of assets. Write names and Dagster's operators "
            "(`+name`, `name+`, `group:name`, `key:a or key:b`, `*`); the assets are "
            f"{known_assets}"
        ) from None
    if not keys:
        raise PlanError(f"{selection!r} selects no asset; see `opencs materialize --help`")
    # Tables that one computation writes are written together.
    keys = {
        member
        for key in keys
        for member in graph.get_execution_set_asset_and_check_keys(key)
        if isinstance(member, dg.AssetKey)
    }
    known = instance.get_dynamic_partitions("dataset")
    _known("dataset", datasets, known, "add it with `opencs add FILE`")
    _known("selector", selectors, list(experiments.selectors), "declare it in experiments.yaml")
    _known(
        "experiment",
        chosen_experiments,
        list(experiments.experiments),
        "declare it in experiments.yaml",
    )
    wanted = {
        "selector": _selectors(experiments, selectors, chosen_experiments, everything),
        "experiment": list(chosen_experiments)
        or (list(experiments.experiments) if everything else []),
    }
    methods = {experiments.selectors[name].method for name in wanted["selector"]}
    keys -= _scores_for_nothing(graph, keys, methods)
    wanted["refined"] = [name for name in wanted["selector"] if experiments.selectors[name].refine]
    sides = {*wanted["experiment"], *experiments.outside_models}
    among = frozenset(experiments.matchups if chosen_matchups is None else chosen_matchups)
    wanted["matchup"] = [
        name
        for name, matchup in experiments.matchups.items()
        if {matchup.model_a, matchup.model_b} <= sides and name in among
    ]
    # Only the outside models that the matchups compare with answer: each answer is paid for.
    compared = {
        side
        for name in wanted["matchup"]
        for side in (experiments.matchups[name].model_a, experiments.matchups[name].model_b)
    }
    wanted["outside_model"] = [
        name for name in experiments.outside_models if everything or name in compared
    ]
    steps = []
    for family, members in family_assets(graph_tags(graph)).values():
        assets = tuple(sorted(key.to_user_string() for key in keys & members))
        if not assets:
            continue
        partitions: list[str | None] = [None]
        if family.by_dataset:
            names = _datasets(datasets, known, everything)
            seconds = [""]
            if family.dimension:
                seconds = wanted[family.dimension]
                refines_nothing = family.dimension == "refined" and wanted["selector"]
                if not seconds and not everything and not refines_nothing:
                    told = f"say which with --{_option(family.dimension)}, or --all"
                    if family.dimension == "matchup" and wanted["experiment"]:
                        told = _other_sides(experiments, wanted["experiment"])
                    raise PlanError(f"{', '.join(assets)}: {told}")
            partitions = [
                f"{name}|{second}" if second else name for name in names for second in seconds
            ]
        elif family.dimension:
            partitions = list(wanted[family.dimension])
            if not partitions and not everything and not wanted["experiment"]:
                raise PlanError(
                    f"{', '.join(assets)}: say for which experiments' matchups with --experiment, "
                    "or --all; outside models are declared under `outside_models` of "
                    "experiments.yaml"
                )
        steps += [Step(family.name, family.job, partition, assets) for partition in partitions]
    return steps


def _other_sides(experiments: Experiments, chosen: Sequence[str]) -> str:
    """What to write where no matchup has both sides among the chosen experiments."""
    lacking = {
        side: name
        for name, matchup in experiments.matchups.items()
        if {matchup.model_a, matchup.model_b} & set(chosen)
        for side in (matchup.model_a, matchup.model_b)
        if side not in chosen and side in experiments.experiments
    }
    among = f"no matchup compares models that are all among {', '.join(chosen)}"
    if not lacking:
        return f"{among}; declare one in experiments.yaml, or leave these assets out"
    side, name = next(iter(lacking.items()))
    return f"{among}; name the other side too, such as --experiment {side} of {name}, or say --all"


def run(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    step: Step,
    *,
    limit: int | None = None,
    force: bool = False,
) -> Ran:
    """Run one step in this process.

    Args:
        defs: The platform's definitions.
        instance: The instance that the run is recorded in.
        step: The step.
        limit: Rows of the dataset's file to read; only where ``raw_dataset`` is in the step.
        force: Make again what could be reused.

    Raises:
        KeyboardInterrupt: The run was told to end, by Ctrl-C or SIGTERM, and has ended.
    """
    checks = sorted(check.node_def.name for check in defs.asset_checks or [])
    config: dict[str, Any] = {"loggers": {"terminal": {"config": {"quiet": checks}}}}
    if limit is not None and "raw_dataset" in step.assets:
        config["ops"] = {"raw_dataset": {"config": {"limit": limit}}}
    job = defs.resolve_job_def(step.job)
    keys = {dg.AssetKey.from_user_string(name) for name in step.assets}
    tags = {"opencs/force": "true"} if force else {}
    if step.partition is not None:
        tags |= job.get_tags_for_partition_key(step.partition, selected_asset_keys=keys)
    run_id = make_new_run_id()
    created = instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config=config,
        # From the start, so that a run that is killed before its first step is known as dead.
        tags={**tags, **note_process(run_id), STARTED_BY_HAND_TAG: "true"},
        asset_selection=frozenset(keys),
    )
    result = execute_run(InMemoryJob(job), created, instance, raise_on_error=False)
    if _was_interrupted(result):
        raise KeyboardInterrupt
    seconds: dict[str, float] = {}
    for event in result.all_events:
        if event.event_type_value == "STEP_SUCCESS":
            stage = "checks" if event.step_key in checks else event.step_key or ""
            spent = event.step_success_data.duration_ms / 1000
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return Ran(step, result.run_id, None if result.success else _error(result), seconds)


def _was_interrupted(result: dg.JobExecutionResult) -> bool:
    failures = (
        event.job_failure_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.RUN_FAILURE
    )
    return any(each.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION for each in failures)


def _error(result: dg.JobExecutionResult) -> str:
    messages = []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                messages.append(f"{event.step_key}: {data.user_failure_data.description}")
            elif data.error:
                deepest = data.error
                while deepest.cause:
                    deepest = deepest.cause
                messages.append(f"{event.step_key}: {deepest.message.strip()}")
    if not messages:
        messages = [
            event.message or event.event_type_value
            for event in result.all_events
            if event.event_type_value == "PIPELINE_FAILURE"
        ]
    return "\n".join(messages)


def _known(kind: str, names: Sequence[str], known: Sequence[str], remedy: str) -> None:
    for name in names:
        if name not in known:
            raise PlanError(
                f"there is no {kind} {name!r}; known: {', '.join(known) or 'none'}; {remedy}"
            )


def _datasets(given: Sequence[str], known: Sequence[str], everything: bool) -> list[str]:
    if given:
        return list(given)
    if not known:
        raise PlanError("there is no dataset yet; add one with `opencs add FILE`")
    if len(known) > 1 and not everything:
        raise PlanError(f"say which with --dataset ({', '.join(known)}), or --all")
    return list(known)


def _selectors(
    experiments: Experiments,
    given: Sequence[str],
    chosen_experiments: Sequence[str],
    everything: bool,
) -> list[str]:
    if given:
        return list(given)
    of_experiments = [experiments.experiments[name].selector for name in chosen_experiments]
    if of_experiments:
        return list(dict.fromkeys(of_experiments))
    return list(experiments.selectors) if everything else []


def _scores_for_nothing(
    graph: Any, keys: AbstractSet[dg.AssetKey], methods: AbstractSet[str]
) -> set[dg.AssetKey]:
    """Scores that only stand before subsets whose selectors read others; each costs calls.

    Args:
        graph: The asset graph (Dagster has no public type for it).
        keys: The selected assets.
        methods: Methods of the selectors whose subsets are wanted.
    """
    subset = dg.AssetKey("selected_subset")
    # The warehouse shows what there is; it needs none of it.
    _, shows = family_assets(graph_tags(graph))[WAREHOUSE.name]
    needed = {name for method in methods & METHODS.keys() for name in METHODS[method].needs}
    found: set[dg.AssetKey] = set()
    for scores in {method.scores for method in METHODS.values() if method.scores} - needed:
        together = {
            member
            for member in graph.get_execution_set_asset_and_check_keys(dg.AssetKey(scores))
            if isinstance(member, dg.AssetKey)
        }
        readers = {child for member in together for child in graph.get(member).child_keys} & keys
        if subset in readers and readers - shows <= graph.get(subset).execution_set_asset_keys:
            found |= together
    return found


def _option(dimension: str) -> str:
    return {"matchup": "experiment", "refined": "selector"}.get(dimension, dimension)


def register_dataset(instance: dg.DagsterInstance, name: str) -> None:
    """Make the dataset known as a partition."""
    instance.add_dynamic_partitions(str(DATASET.name), [name])
