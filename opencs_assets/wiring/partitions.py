"""The partition families and how one family's partitions depend on another's."""

from dataclasses import dataclass

import dagster as dg

from opencs_assets.config.experiments import Experiments

DATASET = dg.DynamicPartitionsDefinition(name="dataset")


def _other_dimension(
    upstream: str, downstream: str, keys: dict[str, set[str]]
) -> dg.MultiPartitionMapping:
    return dg.MultiPartitionMapping(
        {
            "dataset": dg.DimensionPartitionMapping("dataset", dg.IdentityPartitionMapping()),
            upstream: dg.DimensionPartitionMapping(downstream, dg.StaticPartitionMapping(keys)),
        }
    )


@dataclass(frozen=True)
class Partitions:
    """Partition families, made from what ``experiments.yaml`` declares.

    Attributes:
        dataset: One key a dataset; keys are added when data arrives.
        dataset_selector: Dataset × selector.
        dataset_refined: Dataset × selector that refines.
        dataset_experiment: Dataset × experiment.
        dataset_matchup: Dataset × matchup.
        outside_model: One key an outside model; its answers belong to no dataset.
        selector_to_refined: From a subset to its refinement, where its selector refines.
        refined_to_selector: From a refinement to what is made of its selector's subset.
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
    """Make the partition families of the declared selectors, experiments and matchups."""
    of_selector: dict[str, set[str]] = {name: set() for name in experiments.selectors}
    for name, experiment in experiments.experiments.items():
        of_selector[experiment.selector].add(name)
    of_experiment: dict[str, set[str]] = {name: set() for name in experiments.experiments}
    for name, matchup in experiments.matchups.items():
        for side in (matchup.model_a, matchup.model_b):
            if side in of_experiment:
                of_experiment[side].add(name)

    refining = [name for name, selector in experiments.selectors.items() if selector.refine]

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
        selector_to_refined=_other_dimension(
            "selector", "refined", {name: {name} for name in refining}
        ),
        refined_to_selector=_other_dimension(
            "refined", "selector", {name: {name} for name in refining}
        ),
        refined_to_experiment=_other_dimension(
            "refined", "experiment", {name: of_selector[name] for name in refining}
        ),
        selector_to_experiment=_other_dimension("selector", "experiment", of_selector),
        experiment_to_matchup=_other_dimension("experiment", "matchup", of_experiment),
    )
