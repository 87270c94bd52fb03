"""How well the embedded scorer tells the sample dataset's good samples from its bad ones."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from opencs_assets.tables.lake import Lake
from resources.settings import load_settings

ROOT = Path(__file__).parents[2]
QUALITY = ROOT / "tests" / "data" / "sample_quality.csv"
SAMPLE = ROOT / "opencs_assets" / "datasets" / "sample_data" / "sample.jsonl"
STAGES = ("raw_dataset", "open_tags", "normalized_tags", "sample_clusters", "contrastive_scores")
SHUFFLES = 10_000


@dataclass(frozen=True)
class Found:
    """What the scorer came to.

    Attributes:
        pairs: Pairs of a good and a bad sample of one cluster.
        right: Share of them in which the good one has the higher score; a tie is half.
        chance: Probability of as much or more where scores are shuffled within clusters.
    """

    pairs: int
    right: float
    chance: float


def measure() -> Found:
    """Score the sample dataset in a home of its own with the embedded model; takes minutes."""
    models = load_settings(ROOT / ".opencs").models
    with tempfile.TemporaryDirectory() as home:
        environment = {"OPENCS_HOME": home, "OPENCS_MODELS_DIR": str(models), "PATH": ""}
        for words in (["add", str(SAMPLE)], *(["materialize", stage] for stage in STAGES)):
            subprocess.run(
                [sys.executable, "-m", "opencs_assets.cli", *words],
                env=environment,
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
        return compare(Lake(str(Path(home) / "lake")))


def compare(lake: Lake) -> Found:
    """Compare the scores of the dataset ``sample`` in a lake with the planted quality."""
    where = {"dataset": "sample"}
    placed = (
        lake.read("contrastive_scores", where)
        .drop_nulls("score")
        .join(lake.read("raw_dataset", where).select("sample_id", "row"), on="sample_id")
        .join(pl.read_csv(QUALITY), on="row")
        .filter(pl.col("quality").is_in(["good", "bad"]))
    )
    clusters = [
        (group["score"].to_numpy(), (group["quality"] == "good").to_numpy())
        for _, group in placed.group_by("cluster", maintain_order=True)
    ]
    pairs = sum(int(good.sum() * (~good).sum()) for _, good in clusters)
    right = _right(clusters) / pairs
    rng = np.random.default_rng(0)
    shuffled = [
        _right([(scores, rng.permutation(good)) for scores, good in clusters]) / pairs
        for _ in range(SHUFFLES)
    ]
    as_much = sum(each >= right for each in shuffled)
    return Found(pairs, right, (1 + as_much) / (1 + SHUFFLES))


def _right(clusters: list[tuple[np.ndarray, np.ndarray]]) -> float:
    total = 0.0
    for scores, good in clusters:
        ahead = scores[good][:, None] - scores[~good][None, :]
        total += float((ahead > 0).sum() + 0.5 * (ahead == 0).sum())
    return total
