"""Which runs a selection takes, and in which order.

Assets of different partition families can't be in one run, so a selection becomes one run a family
and partition, in the order of the families.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from opencs_assets.config.experiments import Experiments
from opencs_assets.selection.registry import METHODS
from opencs_assets.wiring.jobs import WAREHOUSE, Family
from opencs_assets.wiring.running import Step
from opencs_assets.wiring.selected import PlanError, SelectedAssets


def plan(
    selected: SelectedAssets,
    known: Sequence[str],
    experiments: Experiments,
    *,
    datasets: Sequence[str] = (),
    selectors: Sequence[str] = (),
    chosen_experiments: Sequence[str] = (),
    chosen_matchups: Sequence[str] | None = None,
    everything: bool = False,
) -> list[Step]:
    """The runs that materialize a selection.

    Args:
        selected: The selected assets.
        known: The datasets that there are.
        experiments: What is declared.
        datasets: Datasets; unset: the only one, or with ``everything`` all.
        selectors: Selectors; unset: those of the experiments, or with ``everything`` all.
        chosen_experiments: Experiments; unset: with ``everything`` all.
        chosen_matchups: Matchups; unset: all between the experiments, and with outside models.
        everything: Take every partition that is not narrowed down.

    Raises:
        PlanError: A name is unknown, or it is unclear which partitions.
    """
    declare = "declare it in experiments.yaml"
    _check_known("dataset", datasets, known, "add it with `opencs add FILE`")
    _check_known("selector", selectors, list(experiments.selectors), declare)
    _check_known("experiment", chosen_experiments, list(experiments.experiments), declare)
    wanted = _wanted(experiments, selectors, chosen_experiments, chosen_matchups, everything)
    methods = {experiments.selectors[name].method for name in wanted["selector"]}
    names = selected.names - _scores_for_nothing(selected, methods)
    steps = []
    for family, members in selected.families:
        assets = tuple(sorted(names & members))
        if not assets:
            continue
        keys = wanted[family.dimension] if family.dimension else [""]
        of_datasets = _datasets(datasets, known, everything) if family.by_dataset else ()
        if not keys and not everything and (lacking := _lacking(family, wanted, experiments)):
            raise PlanError(f"{', '.join(assets)}: {lacking}")
        if family.by_dataset:
            keys = [f"{name}|{key}" if key else name for name in of_datasets for key in keys]
        steps += [Step(family.name, family.job, key or None, assets) for key in keys]
    return steps


def _wanted(
    experiments: Experiments,
    selectors: Sequence[str],
    chosen: Sequence[str],
    matchups: Sequence[str] | None,
    everything: bool,
) -> dict[str, list[str]]:
    """The partitions of each dimension beside ``dataset``."""
    wanted = {
        "selector": list(selectors)
        or list(dict.fromkeys(experiments.experiments[name].selector for name in chosen))
        or (list(experiments.selectors) if everything else []),
        "experiment": list(chosen) or (list(experiments.experiments) if everything else []),
    }
    wanted["refined"] = [name for name in wanted["selector"] if experiments.selectors[name].refine]
    sides = {*wanted["experiment"], *experiments.outside_models}
    among = frozenset(experiments.matchups if matchups is None else matchups)
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
    return wanted


def _lacking(
    family: Family, wanted: Mapping[str, Sequence[str]], experiments: Experiments
) -> str | None:
    """What to say so that a family has partitions; ``None`` where it rightly has none."""
    if not family.by_dataset:
        if wanted["experiment"]:
            return None
        return (
            "say for which experiments' matchups with --experiment, or --all; outside models are "
            "declared under `outside_models` of experiments.yaml"
        )
    if family.dimension == "refined" and wanted["selector"]:
        return None
    if family.dimension == "matchup" and wanted["experiment"]:
        return _other_sides(experiments, wanted["experiment"])
    option = {"matchup": "experiment", "refined": "selector"}.get(
        family.dimension or "", family.dimension
    )
    return f"say which with --{option}, or --all"


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


def _check_known(kind: str, names: Sequence[str], known: Sequence[str], remedy: str) -> None:
    for name in names:
        if name not in known:
            raise PlanError(
                f"there is no {kind} {name!r}; known: {', '.join(known) or 'none'}; {remedy}"
            )


def _datasets(given: Sequence[str], known: Sequence[str], everything: bool) -> Sequence[str]:
    if given:
        return given
    if not known:
        raise PlanError("there is no dataset yet; add one with `opencs add FILE`")
    if len(known) > 1 and not everything:
        raise PlanError(f"say which with --dataset ({', '.join(known)}), or --all")
    return known


def _scores_for_nothing(selected: SelectedAssets, methods: AbstractSet[str]) -> set[str]:
    """Scores that only stand before subsets whose selectors read others; each costs calls.

    Args:
        selected: The selected assets.
        methods: Methods of the selectors whose subsets are wanted.
    """
    subset = "selected_subset"
    # The warehouse shows what there is; it needs none of it.
    shows = next(members for family, members in selected.families if family == WAREHOUSE)
    needed = {name for method in methods & METHODS.keys() for name in METHODS[method].needs}
    unread: set[str] = set()
    for scores in {method.scores for method in METHODS.values() if method.scores} - needed:
        written = selected.together[scores]
        readers = {name for each in written for name in selected.readers[each]} & selected.names
        if subset in readers and readers - shows <= selected.together[subset]:
            unread |= written
    return unread
