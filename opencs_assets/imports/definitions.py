"""The asset, check and sensor of the stage of imported verdicts."""

from opencs_assets.imports.assets import build_import_assets
from opencs_assets.imports.checks import build_import_checks
from opencs_assets.imports.sensors import build_import_sensor
from opencs_assets.wiring.jobs import IMPORTED
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(_: Declared) -> Stage:
    """The stage's asset, check and sensor, which do not depend on what is declared."""
    return Stage(
        assets=build_import_assets(),
        checks=build_import_checks(),
        sensors=lambda families: [build_import_sensor(families[IMPORTED.name][0].job)],
    )
