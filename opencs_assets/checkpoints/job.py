"""Training jobs made from experiments and subsets, and table rows made from their results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from opencs_assets.checkpoints.place import stored
from opencs_assets.checkpoints.provenance import base_model_identity, checkpoint_fields
from opencs_assets.config.experiments import Experiment
from opencs_assets.config.recipes import Recipe
from opencs_assets.tables.checkpoints import CHECKPOINT
from resources.provenance import SHORT, content_hash
from resources.schema import conform
from resources.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingJob:
    """The inputs of a training, and the folder or URL (``output``) of its checkpoint.

    ``samples`` is the subset in the order of choice; ``fields`` is all that determines the weights.
    """

    samples: pl.DataFrame
    recipe: Recipe
    base_model: Path
    template: str
    fields: Mapping[str, Any]
    output: str

    @property
    def provenance(self) -> str:
        """Hash of ``fields``."""
        return content_hash(self.fields)

    def stored(self) -> Mapping[str, Any] | None:
        """The result of a whole checkpoint of this provenance, if there is one."""
        return stored(self.output, self.provenance)

    def as_json(self, settings: TrainingSettings, *, force: bool) -> dict[str, Any]:
        """The job file's content, without the samples; see ``train.py``."""
        return {
            "base_model": str(self.base_model),
            "chat_template": self.template,
            "output": self.output,
            "recipe": self.recipe.model_dump(mode="json"),
            "fields": dict(self.fields),
            "settings": settings.model_dump(mode="json"),
            "force": force,
        }


def training_job(
    samples: pl.DataFrame, recipe: Recipe, base_model: Path, template: str, folder: str
) -> TrainingJob:
    """The job whose checkpoint goes below a folder or URL under a name made of its provenance.

    Raises:
        BaseModelError: The base model can't be trained.
    """
    fields = checkpoint_fields(samples, recipe, base_model_identity(base_model), template)
    output = f"{folder.rstrip('/')}/{content_hash(fields)[:SHORT]}"
    return TrainingJob(samples, recipe, base_model, template, fields, output)


def checkpoint_row(
    job: TrainingJob, experiment: Experiment, result: Mapping[str, Any]
) -> pl.DataFrame:
    """The one row of the table ``checkpoint``, with the result that the training reported."""
    row = {
        **{name: value for name, value in result.items() if name in CHECKPOINT.columns},
        "provenance": job.provenance,
        "path": job.output,
        "base_model": experiment.base_model,
        "selector": experiment.selector,
        "recipe": job.recipe.model_dump_json(),
        "subset_hash": job.fields["subset"],
        "packages": [
            {"name": name, "version": version}
            for name, version in sorted(dict(result["packages"]).items())
        ],
    }
    return conform(pl.DataFrame([row], schema=CHECKPOINT.schema), CHECKPOINT)
