"""A training as it is passed on: the job, read and checked, and the subset as it is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.checkpoints.encoding import Encoded
from opencs_assets.checkpoints.place import TrainingPlace
from opencs_assets.config.recipes import Recipe
from resources.settings import TrainingSettings


@dataclass(frozen=True)
class Training:
    """A job, read and checked.

    Attributes:
        samples: The subset, in the order of choice.
        recipe: How to train.
        base_model: The base model's folder.
        template: The chat template.
        settings: The home's ``training`` settings.
        fields: What the checkpoint's provenance is the hash of.
        place: Where the work is and where the checkpoint goes.
        processes: Processes on a node.
        nodes: Nodes.
        force: Train again what is there.
        launch: Name of the launch; empty where it has none.
    """

    samples: pl.DataFrame
    recipe: Recipe
    base_model: Path
    template: str
    settings: TrainingSettings
    fields: Mapping[str, Any]
    place: TrainingPlace
    processes: int
    nodes: int
    force: bool
    launch: str


@dataclass(frozen=True)
class PreparedSubset:
    """The subset as the trainer takes it.

    Attributes:
        encoded: Samples with a response token within the length limit, in the subset's order.
        held_out: Those of them that are evaluated instead.
        truncated: How many of both were cut.
        dropped: Ids of samples that are left out: without a response token within the limit, or
            longer than it where the recipe drops these.
    """

    encoded: list[Encoded]
    held_out: list[Encoded]
    truncated: int
    dropped: list[str]
