"""From an experiment and its subset to the training job, and from its result to the table."""

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
    """What is to be trained, and where the checkpoint will be.

    Attributes:
        samples: The subset with its conversations, in the order of choice.
        recipe: The experiment's recipe.
        base_model: The base model's folder.
        template: The chat template to train with.
        fields: All that determines the weights.
        output: The checkpoint's folder or URL.
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
    """Resolve the job of an experiment.

    Args:
        samples: The subset's conversations (``subset_content``).
        recipe: The experiment's recipe.
        base_model: The base model's folder.
        template: The chat template to train with.
        folder: Folder or URL of the experiment's checkpoints on this dataset.

    Raises:
        BaseModelError: The base model can't be trained.
    """
    fields = checkpoint_fields(samples, recipe, base_model_identity(base_model), template)
    output = f"{folder.rstrip('/')}/{content_hash(fields)[:SHORT]}"
    return TrainingJob(samples, recipe, base_model, template, fields, output)


def checkpoint_row(
    job: TrainingJob, experiment: Experiment, result: Mapping[str, Any]
) -> pl.DataFrame:
    """The one row of the table ``checkpoint``.

    Args:
        job: The job.
        experiment: The experiment's entry.
        result: What training reported, now or when the checkpoint was made.
    """
    made = {name: value for name, value in result.items() if name in CHECKPOINT.columns}
    row = {
        **made,
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
