"""The asset ``checkpoint``."""

import os
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl

from opencs_assets.checkpoints import plots
from opencs_assets.checkpoints.checks import whole_subset_same_steps
from opencs_assets.checkpoints.job import TrainingJob, checkpoint_row, training_job
from opencs_assets.checkpoints.provenance import CODE_VERSION, BaseModelError
from opencs_assets.checkpoints.templates import declared_template
from opencs_assets.config.experiments import Experiments
from opencs_assets.tables.checkpoints import CHECKPOINT
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.subset import subset_of
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import EXPERIMENT, FORCE_TAG
from opencs_assets.wiring.metadata import plot, table_metadata
from opencs_assets.wiring.partitions import Partitions
from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work
from resources.models import embedded_base_model
from resources.settings import EMBEDDED, Settings

TRAINER = "opencs_assets.checkpoints.train"
SUBSET_CHECK = "whole_subset_same_steps"
# Weights in other formats are left out, since nothing here reads them.
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
# Columns of the row that are no plain lines of the asset's page, which ends with the hashes.
ELSEWHERE = {"provenance", "path", "base_model", "selector", "recipe", "packages", "log"}
SHOWN = sorted(
    (name for name in CHECKPOINT.columns if name not in ELSEWHERE),
    key=lambda name: name.endswith("_hash"),
)


class CheckpointConfig(dg.Config):
    """How to materialize the checkpoint; ``force`` trains again what could be reused."""

    force: bool = False


def build_checkpoint_assets(
    experiments: Experiments, partitions: Partitions
) -> list[dg.AssetsDefinition]:
    """The asset that trains each declared experiment."""

    @dg.asset(
        partitions_def=partitions.dataset_experiment,
        ins={"selected_subset": dg.AssetIn(partition_mapping=partitions.selector_to_experiment)},
        deps=[
            dg.AssetDep("outside_samples", partition_mapping=partitions.selector_to_experiment),
            dg.AssetDep("refined_samples", partition_mapping=partitions.refined_to_experiment),
        ],
        io_manager_key="lake",
        # With a check in the asset, Dagster would take the return annotation for "no value".
        dagster_type=dg.Any,
        description=(
            "The base model fine-tuned on the experiment's subset. Reused where subset, base "
            "model, recipe and code are the same and the files are whole."
        ),
        kinds={"python", "torch", "huggingface"},
        owners=["team:training"],
        group_name="checkpoints",
        tags=EXPERIMENT.tags,
        metadata=table_metadata("checkpoint"),
        code_version=CODE_VERSION,
        pool="gpu",
        check_specs=[
            dg.AssetCheckSpec(
                SUBSET_CHECK,
                asset="checkpoint",
                description=whole_subset_same_steps.__doc__,
                blocking=True,
            )
        ],
    )
    def checkpoint(
        context: dg.AssetExecutionContext,
        config: CheckpointConfig,
        selected_subset: pl.DataFrame,
        raw_dataset: pl.DataFrame,
        launcher: TrainingLauncher,
        home: Home,
    ) -> dg.MaterializeResult:
        keys = partitions.dataset_experiment.get_partition_key_from_str(
            context.partition_key
        ).keys_by_dimension
        experiment = experiments.experiments[keys["experiment"]]
        force = config.force or context.run.tags.get(FORCE_TAG) == "true"
        settings = home.settings()
        with clear_failures():
            samples = subset_of(
                Lake(settings.lake),
                keys["dataset"],
                experiment.selector,
                selected_subset,
                raw_dataset,
                refines=experiments.selectors[experiment.selector].refine,
            )
            job = _training_job(experiments, keys, samples, home)
            result = None if force else job.stored()
        reused = result is not None
        if result is None:
            result = launcher.run(
                context,
                Work(
                    TRAINER,
                    job.as_json(settings.training, force=force),
                    {"samples": job.samples},
                    asset="checkpoint",
                    partition=context.partition_key,
                    provenance=job.provenance,
                    parallel=True,
                    places=(str(job.base_model), job.output),
                ),
            )
            reused = bool(result["reused"])
        return _materialized(checkpoint_row(job, experiment, result), selected_subset, reused)

    return [checkpoint]


def _training_job(
    experiments: Experiments, keys: Mapping[str, str], samples: pl.DataFrame, home: Home
) -> TrainingJob:
    """The job of the partition's experiment on the samples of its subset."""
    settings = home.settings()
    experiment = experiments.experiments[keys["experiment"]]
    model = experiments.base_models[experiment.base_model]
    base_model = base_model_folder(model.source, settings)
    return training_job(
        samples.select("sample_id", "system", "messages"),
        experiments.recipes[experiment.recipe],
        base_model,
        declared_template(model.chat_template, base_model, home.folder),
        f"{settings.checkpoints}/{keys['dataset']}/{keys['experiment']}",
    )


def _materialized(
    table: pl.DataFrame, subset: pl.DataFrame, reused: bool
) -> dg.MaterializeResult[pl.DataFrame]:
    """The table's one row with what the asset's page shows of it and the check of its subset."""
    row = table.row(0, named=True)
    log = table.select(pl.col("log").explode()).unnest("log")
    finding = whole_subset_same_steps(table, subset)
    return dg.MaterializeResult(
        value=table,
        metadata={
            "reused": reused,
            **{name: row[name] for name in SHOWN if row[name] is not None},
            "packages": {package["name"]: package["version"] for package in row["packages"]},
            "checkpoint": dg.MetadataValue.path(row["path"]),
            "provenance": row["provenance"],
            "loss_curve": plot(plots.loss_curve(log)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=SUBSET_CHECK,
                passed=finding.passed,
                description=finding.description,
                metadata=dict(finding.metadata),
            )
        ],
    )


def base_model_folder(source: str, settings: Settings) -> Path:
    """The folder of a declared base model on this machine.

    ``source`` is ``embedded``, a folder, or a name in the Hugging Face cache, or on the hub where
    the settings allow a download.

    Raises:
        BaseModelError: It is not here, or may not be fetched.
    """
    if source == EMBEDDED:
        return embedded_base_model(settings.models)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if not settings.training.download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                source,
                local_files_only=not settings.training.download,
                allow_patterns=list(MODEL_FILES),
            )
        )
    except GatedRepoError:
        raise BaseModelError(
            f"base model {source!r} is gated: accept its licence on its page with the account "
            "whose token stands in HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise BaseModelError(
            f"the hub has no base model {source!r}, or the token in HF_TOKEN may not see it; "
            "correct its `source` in experiments.yaml"
        ) from None
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if settings.training.download and isinstance(error, LocalEntryNotFoundError):
            raise BaseModelError(
                f"base model {source!r} can't be fetched: {error.__cause__ or error}"
            ) from None
        raise BaseModelError(
            f"base model {source!r} is neither a folder nor in the local Hugging Face cache; "
            f"get it with `hf download {source}`, let it be fetched with training.download = "
            "true, or name its folder in experiments.yaml"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise BaseModelError(f"base model {source!r} can't be fetched: {error}") from None
