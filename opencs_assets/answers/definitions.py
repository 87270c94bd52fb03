"""What the stage of models' answers offers."""

from opencs_assets.answers.assets import build_answer_assets, build_outside_assets
from opencs_assets.answers.checks import build_answer_checks, build_outside_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets and checks."""
    experiments, partitions = declared.experiments, declared.partitions
    return Stage(
        assets=[
            *build_answer_assets(experiments, partitions),
            *build_outside_assets(experiments, partitions),
        ],
        checks=[
            *build_answer_checks(experiments, partitions),
            *build_outside_checks(experiments, partitions),
        ],
    )
