"""What the stage of the warehouse offers."""

from opencs_assets.evaluation.assets import build_evaluation_assets
from opencs_assets.evaluation.checks import build_evaluation_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensors."""
    return Stage(
        assets=build_evaluation_assets(declared.settings, declared.experiments),
        checks=build_evaluation_checks(declared.settings),
    )
