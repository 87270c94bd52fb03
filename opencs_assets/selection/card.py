"""The text of an export's card: how and from what a subset was chosen, and its caveats."""

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
    samples: int,
    table: Callable[[str], pl.DataFrame | None],
    refined: pl.DataFrame | None,
    license_name: str,
) -> Card:
    """The card of a subset that the selector ``name`` chose from so many samples of a dataset.

    ``table`` gives the rows of a table of the dataset, ``None`` where there are none yet.
    ``refined`` has the rows of ``refined_samples`` where the selector refines.
    """
    prompts = _prompts(declared, table, refined)
    facts = [
        ("From", f"`{dataset}`, {samples:,} samples"),
        ("Selector", f"`{name}` (method `{declared.method}`)"),
        ("Profile", constants.profile),
        ("Seed", str(options.seed)),
    ]
    if "clusters" in METHODS[declared.method].needs:
        facts.append(("Quota", f"{options.quota} samples from a cluster in its turn"))
        facts.append(("Scores", f"comparisons aggregated by {constants.aggregate}"))
    if declared.file:
        facts.append(("File of the set", f"`{declared.file.name}`"))
    facts += [
        (f"{what[0].upper()}{what[1:]}", f"model `{model}`, prompt `{version}`")
        for what, model, version in prompts
    ]
    notes = []
    if license_name == UNKNOWN_LICENSE:
        notes.append(
            f"The licence of `{dataset}` is not known here; set `licenses.{dataset}` in "
            "settings.toml, and mind the terms of the models that wrote its responses."
        )
    if any(model.startswith(f"{EMBEDDED}:") for _, model, _ in prompts):
        notes.append(
            "An embedded model judged here. It is there so that everything runs offline, not to "
            "judge well."
        )
    return Card(dataset, name, license_name, facts, notes)


def _prompts(
    declared: Selector,
    table: Callable[[str], pl.DataFrame | None],
    refined: pl.DataFrame | None,
) -> list[tuple[str, str, str]]:
    """The purpose, model and prompt version of each prompt that the choice rests on."""
    sources = {
        "clusters": ("tags by", "open_tags"),
        "contrastive_scores": ("comparisons by", "score_comparisons"),
        "whole_set_scores": ("comparisons by", "whole_set_comparisons"),
        "single_scores": ("single scores by", "single_scores"),
    }
    needs = METHODS[declared.method].needs
    tables = [(what, table(name)) for need, (what, name) in sources.items() if need in needs]
    return [
        (what, model, version)
        for what, rows in [*tables, ("refined by", refined)]
        if rows is not None
        for model, version in rows.select("model", "prompt_version")
        .unique()
        .sort("model")
        .iter_rows()
    ]
