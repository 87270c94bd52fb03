"""What the stage of judging offers."""

from opencs_assets.protocols.registry import refuse_misfits
from opencs_assets.verdicts.assets import build_verdict_assets
from opencs_assets.verdicts.checks import build_verdict_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensors."""
    refuse_misfits(declared.settings, declared.settings.roles.judge.resolved_reading)
    return Stage(
        assets=build_verdict_assets(declared.experiments, declared.partitions),
        checks=build_verdict_checks(declared.experiments, declared.partitions),
    )
