"""What determines the answers to a benchmark, as one hash."""

from typing import Any

import polars as pl

from opencs_assets.answers.sampling import temperature
from opencs_assets.provenance import content_hash, package_versions

CODE_VERSION = "1"
PACKAGES = ("torch", "transformers")


def answer_fields(
    checkpoint: str, questions: pl.DataFrame, max_new_tokens: int, seed: int
) -> dict[str, Any]:
    """All that determines the answers; its ``content_hash`` is their provenance.

    References are left out, for the model does not see them; so is the batch size, which changes
    nothing but the time.

    Args:
        checkpoint: Provenance of the checkpoint.
        questions: Questions of one benchmark.
        max_new_tokens: Most tokens of an answer.
        seed: The recipe's seed.
    """
    asked = questions.select("benchmark", "question_id", "category", "turns").rows()
    return {
        "checkpoint": checkpoint,
        "questions": content_hash(asked),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "temperatures": {name: temperature(name) for name in sorted(set(questions["category"]))},
        "code": CODE_VERSION,
        "packages": package_versions(PACKAGES),
    }
