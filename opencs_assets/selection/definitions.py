"""The definitions of the selection stage."""

from opencs_assets.selection.assets import build_selection_assets
from opencs_assets.selection.checks import build_selection_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensors."""
    return Stage(
        assets=build_selection_assets(declared.experiments, declared.partitions),
        checks=build_selection_checks(declared.partitions),
    )
