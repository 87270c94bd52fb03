"""What is offered of planning in the UI."""

from opencs_assets.planning.assets import build_planning_assets
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """What a dataset would take, and how much its subset owes to settings."""
    return Stage(assets=build_planning_assets(declared.partitions))
