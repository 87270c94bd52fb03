"""What determines the answers to a benchmark, as one hash."""

from typing import Any

import polars as pl

from opencs_assets.config.benchmarks import BenchmarkSampling
from resources.provenance import content_hash, package_versions

CODE_VERSION = "2"
PACKAGES = ("torch", "transformers")
LOCAL = "transformers"


def answer_fields(
    checkpoint: str,
    questions: pl.DataFrame,
    sampling: BenchmarkSampling,
    *,
    max_new_tokens: int | None,
    seed: int,
    served_as: str | None = None,
) -> dict[str, Any]:
    """All that determines the answers to a benchmark; its ``content_hash`` is their provenance.

    The generator takes the settings from here, so that what is hashed is what is done. References
    are left out, for the model does not see them; so are the batch size, which changes nothing but
    the time, and an endpoint's address, which may move.

    Args:
        checkpoint: Provenance of the checkpoint.
        questions: Questions of one benchmark.
        sampling: The benchmark's settings.
        max_new_tokens: The recipe's limit; ``None``: the benchmark's.
        seed: The recipe's seed.
        served_as: Name that an endpoint serves the checkpoint by; ``None``: generated here.
    """
    visible = questions.select("benchmark", "question_id", "category", "turns")
    return {
        "checkpoint": checkpoint,
        "questions": content_hash(visible.rows()),
        "max_new_tokens": max_new_tokens or sampling.max_new_tokens,
        "seed": seed,
        "temperatures": sampling.by_category(questions["category"]),
        "code": CODE_VERSION,
        # A server has another generator of random numbers, and packages of its own.
        "engine": f"endpoint {served_as}" if served_as else LOCAL,
        "packages": {} if served_as else package_versions(PACKAGES),
    }
