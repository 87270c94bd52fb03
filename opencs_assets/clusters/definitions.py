"""What the stage of clusters of tags offers."""

from opencs_assets.clusters.assets import build_cluster_assets
from opencs_assets.clusters.checks import build_cluster_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets, checks and sensors."""
    return Stage(
        assets=build_cluster_assets(declared.partitions),
        checks=build_cluster_checks(declared.partitions),
    )
