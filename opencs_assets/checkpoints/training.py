"""The forms in which a training is passed on: the checked job, and the encoded subset."""

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
    """A job that was read and checked; ``train`` says what its entries mean.

    ``processes`` run on each node. ``launch`` is empty where the launch has no name.
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
    """The subset as the trainer takes it: the samples that are trained on, in order, and others.

    ``truncated`` of the ``encoded`` and the ``held_out`` ones were cut; ``dropped`` are the ids of
    those that have no response within the length limit, or that the recipe drops as too long.
    """

    encoded: list[Encoded]
    held_out: list[Encoded]
    truncated: int
    dropped: list[str]
