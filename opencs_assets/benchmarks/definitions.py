"""What the stage of the benchmarks offers."""

from opencs_assets.benchmarks.assets import build_benchmark_assets
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets."""
    return Stage(assets=build_benchmark_assets(declared.experiments))
