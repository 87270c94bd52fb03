"""The partitions of all families and how those of one family depend on those of another."""

from dataclasses import dataclass

import dagster as dg

from opencs_assets.config.experiments import Experiments

DATASET = dg.DynamicPartitionsDefinition(name="dataset")


def _other_dimension(
    upstream: str, downstream: str, keys: dict[str, set[str]]
) -> dg.MultiPartitionMapping:
    """Partitions of one dataset depend on each other by their other dimension's keys."""
    return dg.MultiPartitionMapping(
        {
            "dataset": dg.DimensionPartitionMapping("dataset", dg.IdentityPartitionMapping()),
            upstream: dg.DimensionPartitionMapping(downstream, dg.StaticPartitionMapping(keys)),
        }
    )


@dataclass(frozen=True)
class Partitions:
    """The partitions of all families, made from what ``experiments.yaml`` declares.

    Attributes:
        dataset: One key a dataset; keys are added when data arrives.
        dataset_selector: Dataset × selector.
        dataset_refined: Dataset × selector that refines.
        dataset_experiment: Dataset × experiment.
        dataset_matchup: Dataset × matchup.
        outside_model: One key an outside model; its answers belong to no dataset.
        selector_to_refined: From a subset to its refinement, where its selector refines.
        refined_to_selector: From a refinement to the exports of its selector's subset.
        refined_to_experiment: From a refinement to the experiments that train on it.
        selector_to_experiment: From a subset to the experiments that train on it.
        experiment_to_matchup: From an experiment to the matchups that it is in.
    """

    dataset: dg.DynamicPartitionsDefinition
    dataset_selector: dg.MultiPartitionsDefinition
    dataset_refined: dg.MultiPartitionsDefinition
    dataset_experiment: dg.MultiPartitionsDefinition
    dataset_matchup: dg.MultiPartitionsDefinition
    outside_model: dg.StaticPartitionsDefinition
    selector_to_refined: dg.MultiPartitionMapping
    refined_to_selector: dg.MultiPartitionMapping
    refined_to_experiment: dg.MultiPartitionMapping
    selector_to_experiment: dg.MultiPartitionMapping
    experiment_to_matchup: dg.MultiPartitionMapping


def build_partitions(experiments: Experiments) -> Partitions:
    """Make the partitions of the declared selectors, experiments and matchups."""
    experiments_of: dict[str, set[str]] = {name: set() for name in experiments.selectors}
    for name, experiment in experiments.experiments.items():
        experiments_of[experiment.selector].add(name)
    matchups_of: dict[str, set[str]] = {name: set() for name in experiments.experiments}
    for name, matchup in experiments.matchups.items():
        for side in (matchup.model_a, matchup.model_b):
            if side in matchups_of:
                matchups_of[side].add(name)

    refining = [name for name, selector in experiments.selectors.items() if selector.refine]
    same_name = {name: {name} for name in refining}

    def by(dimension: str, keys: list[str]) -> dg.MultiPartitionsDefinition:
        return dg.MultiPartitionsDefinition(
            {"dataset": DATASET, dimension: dg.StaticPartitionsDefinition(keys)}
        )

    return Partitions(
        dataset=DATASET,
        dataset_selector=by("selector", list(experiments.selectors)),
        dataset_refined=by("refined", refining),
        dataset_experiment=by("experiment", list(experiments.experiments)),
        dataset_matchup=by("matchup", list(experiments.matchups)),
        outside_model=dg.StaticPartitionsDefinition(list(experiments.outside_models)),
        selector_to_refined=_other_dimension("selector", "refined", same_name),
        refined_to_selector=_other_dimension("refined", "selector", same_name),
        refined_to_experiment=_other_dimension(
            "refined", "experiment", {name: experiments_of[name] for name in refining}
        ),
        selector_to_experiment=_other_dimension("selector", "experiment", experiments_of),
        experiment_to_matchup=_other_dimension("experiment", "matchup", matchups_of),
    )
