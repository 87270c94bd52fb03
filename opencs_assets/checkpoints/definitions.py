"""What the stage of fine-tuned models offers."""

from opencs_assets.checkpoints.assets import build_checkpoint_assets
from opencs_assets.checkpoints.checks import build_checkpoint_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensors."""
    return Stage(
        assets=build_checkpoint_assets(declared.experiments, declared.partitions),
        checks=build_checkpoint_checks(declared.partitions),
    )
