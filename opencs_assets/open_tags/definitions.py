"""The assets and checks of the stage that tags samples and normalizes the tags."""

from opencs_assets.open_tags.assets import build_tag_assets
from opencs_assets.open_tags.checks import build_tag_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets and checks."""
    return Stage(
        assets=build_tag_assets(declared.partitions),
        checks=build_tag_checks(declared.partitions),
    )
