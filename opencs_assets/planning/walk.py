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
        experiments: The declared selectors, experiments and matchups.
        datasets: Datasets; by default the only one, or with ``everything`` all.
        selectors: Selectors; by default those of the experiments, or with ``everything`` all.
        chosen_experiments: Experiments; by default none, or with ``everything`` all.
        chosen_matchups: Matchups; by default all between the experiments, and with outside models.
        everything: Take every partition that the other arguments do not leave out.

    Raises:
        PlanError: A name is unknown, or the partitions can't be told from the arguments.
    """
    declare = "declare it in experiments.yaml"
    _check_known("dataset", datasets, known, "add it with `opencs add FILE`")
    _check_known("selector", selectors, list(experiments.selectors), declare)
    _check_known("experiment", chosen_experiments, list(experiments.experiments), declare)
    keys_of = _keys_by_dimension(
        experiments, selectors, chosen_experiments, chosen_matchups, everything
    )
    methods = {experiments.selectors[name].method for name in keys_of["selector"]}
    names = selected.names - _scores_for_nothing(selected, methods)
    steps = []
    for family, members in selected.families:
        assets = tuple(sorted(names & members))
        if not assets:
            continue
        keys = keys_of[family.dimension] if family.dimension else [""]
        of_datasets = _datasets(datasets, known, everything) if family.by_dataset else ()
        if not keys and not everything and (lacking := _lacking(family, keys_of, experiments)):
            raise PlanError(f"{', '.join(assets)}: {lacking}")
        if family.by_dataset:
            keys = [f"{name}|{key}" if key else name for name in of_datasets for key in keys]
        steps += [Step(family.name, family.job, key or None, assets) for key in keys]
    return steps


def _keys_by_dimension(
    experiments: Experiments,
    selectors: Sequence[str],
    chosen: Sequence[str],
    matchups: Sequence[str] | None,
    everything: bool,
) -> dict[str, list[str]]:
    """The partitions of each dimension beside ``dataset``."""
    keys_of = {
        "selector": list(selectors)
        or list(dict.fromkeys(experiments.experiments[name].selector for name in chosen))
        or (list(experiments.selectors) if everything else []),
        "experiment": list(chosen) or (list(experiments.experiments) if everything else []),
    }
    keys_of["refined"] = [
        name for name in keys_of["selector"] if experiments.selectors[name].refine
    ]
    sides = {*keys_of["experiment"], *experiments.outside_models}
    among = frozenset(experiments.matchups if matchups is None else matchups)
    keys_of["matchup"] = [
        name
        for name, matchup in experiments.matchups.items()
        if {matchup.model_a, matchup.model_b} <= sides and name in among
    ]
    # Only the outside models that the matchups compare with answer: each answer is paid for.
    compared = {
        side
        for name in keys_of["matchup"]
        for side in (experiments.matchups[name].model_a, experiments.matchups[name].model_b)
    }
    keys_of["outside_model"] = [
        name for name in experiments.outside_models if everything or name in compared
    ]
    return keys_of


def _lacking(
    family: Family, keys_of: Mapping[str, Sequence[str]], experiments: Experiments
) -> str | None:
    """The advice that gives a family partitions; ``None`` where it rightly has none."""
    if not family.by_dataset:
        if keys_of["experiment"]:
            return None
        return (
            "say for which experiments' matchups with --experiment, or --all; outside models are "
            "declared under `outside_models` of experiments.yaml"
        )
    if family.dimension == "refined" and keys_of["selector"]:
        return None
    if family.dimension == "matchup" and keys_of["experiment"]:
        return _other_sides(experiments, keys_of["experiment"])
    option = {"matchup": "experiment", "refined": "selector"}.get(
        family.dimension or "", family.dimension
    )
    return f"say which with --{option}, or --all"


def _other_sides(experiments: Experiments, chosen: Sequence[str]) -> str:
    """The advice where no matchup has both sides among the chosen experiments."""
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


def _datasets(chosen: Sequence[str], known: Sequence[str], everything: bool) -> Sequence[str]:
    if chosen:
        return chosen
    if not known:
        raise PlanError("there is no dataset yet; add one with `opencs add FILE`")
    if len(known) > 1 and not everything:
        raise PlanError(f"say which with --dataset ({', '.join(known)}), or --all")
    return known


def _scores_for_nothing(selected: SelectedAssets, methods: AbstractSet[str]) -> set[str]:
    """Selected scores, which cost calls, that no selector of the planned ``methods`` reads."""
    subset = "selected_subset"
    # The warehouse reads every table that exists, but needs none of these.
    shows = next(members for family, members in selected.families if family == WAREHOUSE)
    needed = {name for method in methods & METHODS.keys() for name in METHODS[method].needs}
    unread: set[str] = set()
    for scores in {method.scores for method in METHODS.values() if method.scores} - needed:
        written = selected.together[scores]
        readers = {name for table in written for name in selected.readers[table]} & selected.names
        if subset in readers and readers - shows <= selected.together[subset]:
            unread |= written
    return unread
