"""What the stage of models' answers offers."""

from opencs_assets.answers.assets import build_answer_assets, build_outside_assets
from opencs_assets.answers.checks import build_answer_checks, build_outside_checks
from opencs_assets.wiring.stage import Declared, Stage


def build_stage(declared: Declared) -> Stage:
    """The stage's assets and checks."""
    given = declared.experiments, declared.partitions
    return Stage(
        assets=[*build_answer_assets(*given), *build_outside_assets(*given)],
        checks=[*build_answer_checks(*given), *build_outside_checks(*given)],
    )
