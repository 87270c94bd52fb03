"""The definitions of planning for the UI."""

from opencs_assets.planning.assets import build_planning_assets
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The assets of cost estimates and of stability."""
    return Stage(assets=build_planning_assets(declared.partitions))
