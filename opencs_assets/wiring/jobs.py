"""The partition families and the job of each: assets of different families can't be in one run.

The families stand in the order in which data flows. The command line runs them in this order, and
a person starts them in this order in the UI.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from resources.errors import InternalError

FAMILY_TAG = "opencs/family"
# The tag of a run that makes checkpoints and answers again, though they could be reused.
FORCE_TAG = "opencs/force"


@dataclass(frozen=True)
class Family:
    """Assets that are partitioned alike and run together.

    Attributes:
        name: Name of the family; its job is ``<name>_job``.
        dimension: The partition dimension other than ``dataset``, if there is one.
        by_dataset: Whether ``dataset`` is a partition dimension.
        description: One sentence on what the job does.
    """

    name: str
    dimension: str | None
    by_dataset: bool
    description: str

    @property
    def job(self) -> str:
        """Name of the family's job."""
        return f"{self.name}_job"

    @property
    def tags(self) -> dict[str, str]:
        """The tags that an asset of the family is defined with."""
        return {FAMILY_TAG: self.name}


BENCHMARKS = Family("benchmarks", None, False, "Read the benchmarks' questions.")
DATASET = Family("dataset", None, True, "Read a dataset, tag, cluster and score its samples.")
# Only a person starts this family, because comparing the whole set costs many times as much as
# comparing within clusters.
WHOLE_SET = Family(
    "whole_set", None, True, "Compare the whole set, for the ablation without clusters."
)
SELECTOR = Family("selector", "selector", True, "Choose a subset.")
REFINED = Family("refined", "refined", True, "Refine a subset's samples.")
EXPORT = Family("export", "selector", True, "Write a subset as files.")
EXPERIMENT = Family(
    "experiment",
    "experiment",
    True,
    "Train on a subset, answer the benchmark, judge the answers.",
)
# An outside model's answers cost money and are the same for every dataset.
OUTSIDE = Family(
    "outside",
    "outside_model",
    False,
    "Have an outside model answer the benchmarks of its matchups.",
)
MATCHUP = Family("matchup", "matchup", True, "Judge two models' answers.")
IMPORTED = Family(
    "imported", None, False, "Read the files of verdicts and answers that were imported."
)
WAREHOUSE = Family(
    "warehouse", None, False, "Build the DuckDB tables from all that is in the lake."
)
FAMILIES = (
    BENCHMARKS,
    DATASET,
    WHOLE_SET,
    SELECTOR,
    REFINED,
    EXPORT,
    EXPERIMENT,
    OUTSIDE,
    MATCHUP,
    IMPORTED,
    WAREHOUSE,
)


class FamilyError(InternalError):
    """An asset does not say which family it belongs to."""


def family_assets(
    tags: Mapping[dg.AssetKey, Mapping[str, str]],
) -> Mapping[str, tuple[Family, frozenset[dg.AssetKey]]]:
    """The assets of each family, by the tags of all assets that can be materialized.

    Raises:
        FamilyError: An asset's tags name no family, or an unknown one.
    """
    known = {family.name for family in FAMILIES}
    for key, asset_tags in tags.items():
        if asset_tags.get(FAMILY_TAG) not in known:
            raise FamilyError(
                f"asset {key.to_user_string()} is tagged with no family; give it "
                f"`tags=FAMILY.tags` with one of {', '.join(sorted(known))}"
            )
    return {
        family.name: (
            family,
            frozenset(key for key in tags if tags[key][FAMILY_TAG] == family.name),
        )
        for family in FAMILIES
    }


def tags_of(assets: Iterable[dg.AssetsDefinition]) -> Mapping[dg.AssetKey, Mapping[str, str]]:
    """The tags of all assets of some definitions."""
    return {spec.key: spec.tags for definition in assets for spec in definition.specs}


def graph_tags(graph: Any) -> Mapping[dg.AssetKey, Mapping[str, str]]:
    """The tags of all assets of a graph (Dagster has no public type for it)."""
    return {
        key: graph.get(key).tags
        for key in graph.get_all_asset_keys()
        if graph.get(key).is_materializable
    }


def build_jobs(assets: Iterable[dg.AssetsDefinition]) -> list[Any]:
    """The job of each family (Dagster has no public type for an asset job that is not resolved)."""
    return [
        dg.define_asset_job(
            family.job,
            selection=dg.AssetSelection.assets(*sorted(keys)),
            description=family.description,
        )
        for family, keys in family_assets(tags_of(assets)).values()
        if keys
    ]
