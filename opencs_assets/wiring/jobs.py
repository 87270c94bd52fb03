"""One job a partition family: assets of different families can't be in one run.

The families in the order that data flows; the command line walks them in this order, and in the
UI a person starts them in this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Family:
    """Assets that are partitioned alike and run together.

    Attributes:
        name: Name of the family; its job is ``<name>_job``.
        assets: Assets in it; empty for the warehouse, which has all the others.
        dimension: Partition dimension, beside ``dataset`` where it is by dataset, if any.
        by_dataset: Whether it is partitioned by dataset at all.
        description: What running it does.
    """

    name: str
    assets: tuple[str, ...]
    dimension: str | None
    by_dataset: bool
    description: str

    @property
    def job(self) -> str:
        """Name of the family's job."""
        return f"{self.name}_job"


FAMILIES: tuple[Family, ...] = (
    Family("benchmarks", ("benchmark_questions",), None, False, "Read the benchmarks' questions."),
    Family(
        "dataset",
        (
            "raw_dataset",
            "rejected_rows",
            "near_duplicates",
            "contaminated_samples",
            "cost_estimate",
            "open_tags",
            "unparsable_tags",
            "normalized_tags",
            "tag_lineage",
            "sample_embeddings",
            "sample_clusters",
            "unclustered_samples",
            "representatives",
            "clusters",
            "score_comparisons",
            "contrastive_scores",
            "single_scores",
            "stability_samples",
            "stability_runs",
        ),
        None,
        True,
        "Read a dataset, tag, cluster and score its samples.",
    ),
    # A family of its own: comparing the whole set costs many times what comparing within clusters
    # does, so nothing but an explicit wish starts it.
    Family(
        "whole_set",
        ("whole_set_comparisons", "whole_set_scores"),
        None,
        True,
        "Compare the whole set, for the ablation without clusters.",
    ),
    Family(
        "selector",
        ("selected_subset", "unselected_samples", "outside_samples"),
        "selector",
        True,
        "Choose a subset.",
    ),
    Family("refined", ("refined_samples",), "refined", True, "Refine a subset's samples."),
    Family("export", ("subset_exports",), "selector", True, "Write a subset as files."),
    Family(
        "experiment",
        ("checkpoint", "model_answers", "single_verdicts"),
        "experiment",
        True,
        "Train on a subset, answer the benchmark, judge the answers.",
    ),
    # Costs money, and is the same for every dataset.
    Family(
        "outside",
        ("outside_answers",),
        "outside_model",
        False,
        "Have an outside model answer the benchmarks of its matchups.",
    ),
    Family("matchup", ("pairwise_verdicts",), "matchup", True, "Judge two models' answers."),
    Family(
        "imported",
        ("imported_verdicts", "rejected_verdicts", "imported_answers"),
        None,
        False,
        "Read the files of verdicts and answers that were imported.",
    ),
)
WAREHOUSE = Family(
    "warehouse", (), None, False, "Build the DuckDB tables from all that is in the lake."
)


def family_assets(
    all_assets: frozenset[dg.AssetKey],
) -> Mapping[str, tuple[Family, frozenset[dg.AssetKey]]]:
    """Which assets belong to which family; what no other family names is the warehouse's."""
    named = {
        family.name: (family, frozenset(dg.AssetKey(name) for name in family.assets))
        for family in FAMILIES
    }
    others = all_assets - frozenset().union(*(keys for _, keys in named.values()))
    return {**named, WAREHOUSE.name: (WAREHOUSE, others)}


def build_jobs(all_assets: frozenset[dg.AssetKey]) -> list[Any]:
    """The job of each family (Dagster has no public type for an asset job that is not resolved)."""
    return [
        dg.define_asset_job(
            family.job,
            selection=dg.AssetSelection.assets(*sorted(keys)),
            description=family.description,
        )
        for family, keys in family_assets(all_assets).values()
        if keys
    ]
