"""Whether a checkpoint is whole and is what its row says."""

from pathlib import Path

import dagster as dg
import polars as pl

from opencs_assets.checkpoints.provenance import BaseModelError, chat_template, template_hash
from opencs_assets.checkpoints.recipe import optimizer_steps
from opencs_assets.checks import Finding, build_check
from opencs_assets.experiments import Recipe
from opencs_assets.partitions import Partitions
from opencs_assets.provenance import ProvenanceError, verify


def files_intact(checkpoint: pl.DataFrame) -> Finding:
    """The checkpoint's files are those that training wrote, under the provenance of its row."""
    row = checkpoint.row(0, named=True)
    try:
        marker = verify(Path(row["path"]), row["provenance"])
    except ProvenanceError as error:
        return Finding(False, str(error), {"path": row["path"]})
    size = sum(entry["bytes"] for entry in marker.files.values())
    return Finding(
        True,
        f"{len(marker.files)} files, {size / 1e6:,.0f} MB, as they were written",
        {"files": len(marker.files), "bytes": size},
    )


def template_of_base_model(checkpoint: pl.DataFrame) -> Finding:
    """Inference will render conversations by the very chat template that training used."""
    row = checkpoint.row(0, named=True)
    try:
        found = template_hash(chat_template(Path(row["path"])))
        trained = verify(Path(row["path"]), row["provenance"], contents=False).fields["template"]
    except (BaseModelError, ProvenanceError) as error:
        return Finding(False, str(error), {"path": row["path"]})
    same = found == row["template_hash"] == trained
    return Finding(
        same,
        "chat template is the base model's"
        if same
        else f"chat template {found[:16]} is not {trained[:16]}, which training used",
        {"template_hash": found},
    )


def whole_subset_same_steps(checkpoint: pl.DataFrame, subset: pl.DataFrame) -> Finding:
    """Every sample of the subset was trained on or counted, for the steps that its size gives."""
    row = checkpoint.row(0, named=True)
    steps = optimizer_steps(Recipe.model_validate_json(row["recipe"]), subset.height)
    seen = row["samples"] + row["dropped_samples"]
    return Finding(
        seen == subset.height and row["steps"] == steps,
        f"{row['samples']} samples trained on and {row['dropped_samples']} dropped of "
        f"{subset.height}; {row['steps']} of {steps} steps",
        {
            "samples": row["samples"],
            "dropped_samples": row["dropped_samples"],
            "subset": subset.height,
            "steps": row["steps"],
            "expected_steps": steps,
        },
    )


def build_checkpoint_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``checkpoint`` that need nothing but its table.

    ``whole_subset_same_steps`` is reported by the asset itself: a check's further inputs ignore
    their partition mapping in Dagster 1.13, so that it could not be given the subset.
    """
    return [
        build_check(
            "checkpoint",
            "files_intact",
            files_intact,
            partitions_def=partitions.dataset_experiment,
        ),
        build_check(
            "checkpoint",
            "template_of_base_model",
            template_of_base_model,
            partitions_def=partitions.dataset_experiment,
        ),
    ]
