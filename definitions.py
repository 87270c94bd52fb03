"""The platform's Dagster definitions: wiring only.

``build_defs`` reads the home's experiments (partitions are made from them) and merges what each
stage offers with jobs and resources. Settings are read when a run needs them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from opencs_assets.answers import definitions as answers
from opencs_assets.benchmarks import definitions as benchmarks
from opencs_assets.checkpoints import definitions as checkpoints
from opencs_assets.clusters import definitions as clusters
from opencs_assets.config.experiments import load_experiments
from opencs_assets.datasets import definitions as datasets
from opencs_assets.evaluation import definitions as evaluation
from opencs_assets.imports import definitions as imports
from opencs_assets.open_tags import definitions as open_tags
from opencs_assets.planning import definitions as planning
from opencs_assets.scores import definitions as scores
from opencs_assets.selection import definitions as selection
from opencs_assets.tables.home import prepare_home
from opencs_assets.verdicts import definitions as verdicts
from opencs_assets.wiring.automation import build_automation_sensor
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import build_jobs, family_assets, tags_of
from opencs_assets.wiring.lake_io import LakeIOManager
from opencs_assets.wiring.partitions import build_partitions
from opencs_assets.wiring.stage import Declared
from opencs_assets.wiring.terminal import terminal_logger
from resources.embedder import EmbedderResource
from resources.launcher.resource import TrainingLauncher
from resources.llm.resource import LLMResource
from resources.runs.executor import one_process_executor

# In the order that data flows.
STAGES = (
    benchmarks,
    datasets,
    planning,
    open_tags,
    clusters,
    scores,
    selection,
    checkpoints,
    answers,
    verdicts,
    imports,
    evaluation,
)


def build_defs(
    home: Path | str | None = None, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Everything that exists for one home, with some of its resources replaced by key.

    Without a home it is that of ``OPENCS_HOME``, else ``.opencs`` in the working directory.
    """
    settings = prepare_home(home)
    experiments = load_experiments(settings.home)
    declared = Declared(settings, experiments, build_partitions(experiments))
    stages = [module.build_stage(declared) for module in STAGES]
    assets = [asset for stage in stages for asset in stage.assets]
    families = family_assets(tags_of(assets))
    folder = str(settings.home)
    return dg.Definitions(
        assets=assets,
        asset_checks=[check for stage in stages for check in stage.checks],
        jobs=build_jobs(assets),
        # One process a run: a process a step costs seconds of imports.
        executor=one_process_executor,
        sensors=[
            *(sensor for stage in stages for sensor in stage.sensors(families)),
            build_automation_sensor(),
        ],
        loggers={"terminal": terminal_logger},
        resources={
            "home": Home(path=folder),
            "lake": LakeIOManager(home=folder),
            "llm": LLMResource(home=folder),
            "embedder": EmbedderResource(home=folder),
            "launcher": TrainingLauncher(home=folder),
            **(resources or {}),
        },
    )


defs = build_defs()
