"""What the card of an export says: how a subset was chosen, from what, and what to know of it."""

from collections.abc import Callable

import polars as pl

from opencs_assets.config.experiments import Selector
from opencs_assets.config.profiles import Constants
from opencs_assets.selection.choice import SelectorOptions
from opencs_assets.selection.export import Card
from opencs_assets.selection.registry import METHODS
from resources.settings import EMBEDDED

UNKNOWN_LICENSE = "unknown"


def describe(
    dataset: str,
    name: str,
    declared: Selector,
    options: SelectorOptions,
    constants: Constants,
    samples: pl.DataFrame,
    table: Callable[[str], pl.DataFrame | None],
    refined: pl.DataFrame | None,
    license_name: str,
) -> Card:
    """Say how a subset was chosen.

    Args:
        dataset: Name of the dataset.
        name: Name of the selector.
        declared: The selector.
        options: What was set of it.
        constants: The dataset's constants.
        samples: Rows of ``raw_dataset``.
        table: Gives the rows of a table of the dataset, ``None`` where there are none yet.
        refined: Rows of ``refined_samples``, if the selector refines.
        license_name: The dataset's licence.
    """
    asked = _asked(declared, table, refined)
    told = [
        ("From", f"`{dataset}`, {samples.height:,} samples"),
        ("Selector", f"`{name}` (method `{declared.method}`)"),
        ("Profile", constants.profile),
        ("Seed", str(options.seed)),
    ]
    if "clusters" in METHODS[declared.method].needs:
        told.append(("Quota", f"{options.quota} samples from a cluster in its turn"))
        told.append(("Scores", f"comparisons aggregated by {constants.aggregate}"))
    if declared.file:
        told.append(("File of the set", f"`{declared.file.name}`"))
    told += [
        (f"{what[0].upper()}{what[1:]}", f"model `{model}`, prompt `{version}`")
        for what, model, version in asked
    ]
    notes = []
    if license_name == UNKNOWN_LICENSE:
        notes.append(
            f"The licence of `{dataset}` is not known here; set `licenses.{dataset}` in "
            "settings.toml, and mind the terms of the models that wrote its responses."
        )
    if any(model.startswith(f"{EMBEDDED}:") for _, model, _ in asked):
        notes.append(
            "An embedded model judged here. It is there so that everything runs offline, not to "
            "judge well."
        )
    return Card(dataset, name, license_name, told, notes)


def _asked(
    declared: Selector,
    table: Callable[[str], pl.DataFrame | None],
    refined: pl.DataFrame | None,
) -> list[tuple[str, str, str]]:
    """What models were asked for the choice: what for, which model, which prompt."""
    sources = {
        "contrastive_scores": ("comparisons by", "score_comparisons"),
        "whole_set_scores": ("comparisons by", "whole_set_comparisons"),
        "single_scores": ("single scores by", "single_scores"),
    }
    needs = METHODS[declared.method].needs
    found = [("tags by", "open_tags")] if "clusters" in needs else []
    found += [source for need, source in sources.items() if need in needs]
    told = []
    for what, name in found:
        rows = table(name)
        if rows is not None:
            told += [(what, *row) for row in _models(rows)]
    if refined is not None:
        told += [("refined by", *row) for row in _models(refined)]
    return told


def _models(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return list(rows.select("model", "prompt_version").unique().sort("model").iter_rows())
