"""The platform's Dagster definitions: wiring only.

``build_defs`` reads the home's experiments (partitions are made from them) and puts assets, checks,
jobs, sensors and resources together. Settings are read when a run needs them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from opencs_assets.answers.assets import build_answer_assets, build_outside_assets
from opencs_assets.answers.checks import build_answer_checks, build_outside_checks
from opencs_assets.checkpoints.assets import build_checkpoint_assets
from opencs_assets.checkpoints.checks import build_checkpoint_checks
from opencs_assets.clusters.assets import build_cluster_assets
from opencs_assets.clusters.checks import build_cluster_checks
from opencs_assets.config.experiments import load_experiments
from opencs_assets.datasets.assets import build_dataset_assets
from opencs_assets.datasets.checks import build_dataset_checks
from opencs_assets.datasets.sensors import build_landing_sensor
from opencs_assets.evaluation.assets import build_evaluation_assets
from opencs_assets.evaluation.checks import build_evaluation_checks
from opencs_assets.imports.assets import build_import_assets
from opencs_assets.imports.checks import build_import_checks
from opencs_assets.imports.sensors import build_import_sensor
from opencs_assets.open_tags.assets import build_tag_assets
from opencs_assets.open_tags.checks import build_tag_checks
from opencs_assets.planning.estimate import build_estimate_assets
from opencs_assets.scores.assets import build_score_assets
from opencs_assets.scores.checks import build_score_checks
from opencs_assets.selection.assets import build_selection_assets
from opencs_assets.selection.checks import build_selection_checks
from opencs_assets.verdicts.assets import build_verdict_assets
from opencs_assets.verdicts.checks import build_verdict_checks
from opencs_assets.wiring.home import Home, prepare_home
from opencs_assets.wiring.jobs import build_jobs, family_assets, tags_of
from opencs_assets.wiring.lake_io import LakeIOManager
from opencs_assets.wiring.partitions import build_partitions
from opencs_assets.wiring.terminal import terminal_logger
from resources.embedder import EmbedderResource
from resources.launcher.resource import TrainingLauncher
from resources.llm.resource import LLMResource
from resources.runs.executor import one_process_executor


def build_defs(
    home: Path | str | None = None, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Everything that exists, for one home.

    Args:
        home: The home; unset: ``OPENCS_HOME``, else ``.opencs`` here.
        resources: Resources that replace the home's, by key.
    """
    settings = prepare_home(home)
    folder = settings.home
    experiments = load_experiments(folder)
    partitions = build_partitions(experiments)
    assets = [
        *build_dataset_assets(partitions),
        *build_estimate_assets(partitions),
        *build_tag_assets(partitions),
        *build_cluster_assets(partitions),
        *build_score_assets(partitions),
        *build_selection_assets(experiments, partitions),
        *build_checkpoint_assets(experiments, partitions),
        *build_answer_assets(experiments, partitions),
        *build_outside_assets(experiments, partitions),
        *build_verdict_assets(experiments, partitions),
        *build_import_assets(),
        *build_evaluation_assets(settings, experiments),
    ]
    checks = [
        *build_dataset_checks(partitions),
        *build_tag_checks(partitions),
        *build_cluster_checks(partitions),
        *build_score_checks(partitions),
        *build_selection_checks(partitions),
        *build_checkpoint_checks(partitions),
        *build_answer_checks(experiments, partitions),
        *build_outside_checks(experiments, partitions),
        *build_verdict_checks(experiments, partitions),
        *build_evaluation_checks(settings),
        *build_import_checks(),
    ]
    families = family_assets(tags_of(assets))
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=build_jobs(assets),
        # One process a run: a process a step costs seconds of imports.
        executor=one_process_executor,
        sensors=[
            build_landing_sensor(
                families["dataset"][0].job,
                tuple(
                    sorted(
                        key.to_user_string()
                        for key in families["dataset"][1]
                        if key != dg.AssetKey("cost_estimate")
                    )
                ),
            ),
            build_import_sensor(families["imported"][0].job),
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.all(),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=30,
                description="Runs the stages that cost nothing when what they read is new.",
            ),
        ],
        loggers={"terminal": terminal_logger},
        resources={
            "home": Home(path=str(folder)),
            "lake": LakeIOManager(home=str(folder)),
            "llm": LLMResource(home=str(folder)),
            "embedder": EmbedderResource(home=str(folder)),
            "launcher": TrainingLauncher(home=str(folder)),
            **(resources or {}),
        },
    )


defs = build_defs()
