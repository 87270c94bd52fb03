"""The assets, checks and sensor of the stage that makes samples of files."""

import dagster as dg

from opencs_assets.datasets.assets import build_dataset_assets
from opencs_assets.datasets.checks import build_dataset_checks
from opencs_assets.datasets.sensors import build_landing_sensor
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.stage import Declared, Families, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensor."""
    return Stage(
        assets=build_dataset_assets(declared.partitions),
        checks=build_dataset_checks(declared.partitions),
        sensors=_sensors,
    )


def _sensors(families: Families) -> list[dg.SensorDefinition]:
    family, keys = families[DATASET.name]
    # A new file starts `cost_estimate` only where the settings ask for it.
    started = sorted(key.to_user_string() for key in keys if key != dg.AssetKey("cost_estimate"))
    return [build_landing_sensor(family.job, tuple(started))]
