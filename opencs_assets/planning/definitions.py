"""What is offered of planning in the UI: the estimate of a dataset."""

from opencs_assets.planning.assets import build_estimate_assets
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The asset that says what a dataset would take."""
    return Stage(assets=build_estimate_assets(declared.partitions))
