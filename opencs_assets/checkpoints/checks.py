"""Whether a checkpoint is whole and is what its row says."""

import dagster as dg
import polars as pl

from opencs_assets.checkpoints.place import stored_template
from opencs_assets.checkpoints.templates import TemplateError
from opencs_assets.config.recipes import Recipe, held_out_rows, optimizer_steps
from opencs_assets.wiring.checks import Finding, build_check
from opencs_assets.wiring.partitions import Partitions
from resources.provenance import ProvenanceError, content_hash
from resources.remote import marker_at, verify_at

COUNTS = ("samples", "held_out_samples", "dropped_samples", "steps", "tokens")


def files_intact(checkpoint: pl.DataFrame) -> Finding:
    """The checkpoint's files are those that training wrote, under the provenance of its row."""
    row = checkpoint.row(0, named=True)
    try:
        marker = verify_at(row["path"], row["provenance"])
    except ProvenanceError as error:
        return Finding(False, str(error), {"path": row["path"]})
    size = sum(entry["bytes"] for entry in marker.files.values())
    return Finding(
        True,
        f"{len(marker.files)} files, {size / 1e6:,.0f} MB, as they were written",
        {"files": len(marker.files), "bytes": size},
    )


def template_of_training(checkpoint: pl.DataFrame) -> Finding:
    """Inference will render conversations by the very chat template that training used."""
    row = checkpoint.row(0, named=True)
    try:
        stored = content_hash(stored_template(row["path"]))
        trained = marker_at(row["path"]).fields["template"]
    except (TemplateError, ProvenanceError) as error:
        return Finding(False, str(error), {"path": row["path"]})
    same = stored == row["template_hash"] == trained
    return Finding(
        same,
        "the chat template is the one that training used"
        if same
        else f"chat template {stored[:16]} is not {trained[:16]}, which training used",
        {"template_hash": stored},
    )


def whole_subset_same_steps(checkpoint: pl.DataFrame, subset: pl.DataFrame) -> Finding:
    """Every sample of the subset was trained on or counted, for the steps that the recipe gives.

    With a budget in tokens the steps follow from the samples' lengths, which differ from step to
    step: then at least nine tenths of the tokens were seen.
    """
    row = checkpoint.row(0, named=True)
    recipe = Recipe.model_validate_json(row["recipe"])
    steps = optimizer_steps(recipe, subset.height)
    held_out = held_out_rows(recipe, subset.height)
    seen = row["samples"] + row["dropped_samples"] + row["held_out_samples"]
    counted = seen == subset.height and row["held_out_samples"] <= held_out
    if steps is None:
        in_budget = row["tokens"] >= 0.9 * (recipe.tokens or 0)
        budget = f"{row['tokens']} of {recipe.tokens} tokens"
    else:
        in_budget = row["steps"] == steps
        budget = f"{row['steps']} of {steps} steps"
    return Finding(
        counted and in_budget,
        f"{row['samples']} samples trained on, {row['held_out_samples']} held out and "
        f"{row['dropped_samples']} dropped of {subset.height}; {budget}",
        {**{name: row[name] for name in COUNTS}, "subset": subset.height},
    )


def build_checkpoint_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks on ``checkpoint`` that need nothing but its table.

    ``whole_subset_same_steps`` is reported by the asset itself: a check's further inputs ignore
    their partition mapping in Dagster 1.13, so that it could not be given the subset.
    """
    return [
        build_check("checkpoint", files_intact, partitions.dataset_experiment),
        build_check("checkpoint", template_of_training, partitions.dataset_experiment),
    ]
