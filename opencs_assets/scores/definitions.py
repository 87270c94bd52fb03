"""The assets and checks of the stage that compares and scores samples."""

from opencs_assets.scores.assets import build_score_assets
from opencs_assets.scores.checks import build_score_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets and checks."""
    return Stage(
        assets=build_score_assets(declared.partitions),
        checks=build_score_checks(declared.partitions),
    )
