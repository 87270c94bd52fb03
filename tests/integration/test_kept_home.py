"""A home as the first release left it: it opens unchanged, and nothing of it is paid for again.

``home-of-0.1.tar.xz`` is the home of twelve samples and two small models after their whole chain,
whose calls `counting_model.py` answered. Left out are the weights, Dagster's own databases and what
is built from the lake. A change of format gets a home of its own beside it.
"""

import json
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from tests.e2e.conftest import opencs
from tests.e2e.killing.model import counting_model

KEPT = Path(__file__).parents[1] / "data" / "home-of-0.1.tar.xz"
MODELS = ("opencs@smollm2-135m", "random@smollm2-135m")
_OF_BOTH = [word for name in MODELS for word in ("--experiment", name)]
VERDICTS = "key:single_verdicts or key:pairwise_verdicts"
COMMANDS = (
    # Dagster knows the dataset again; the file is the one that the home has kept.
    ["add", "datasets/small/71b5afe9838ce823.jsonl", "--name", "small"],
    ["materialize", "*selected_subset", "--dataset", "small", "--selector", "opencs"],
    ["materialize", VERDICTS, "--dataset", "small", *_OF_BOTH],
    ["materialize", "group:evaluation"],
    ["verify"],
)
PAID = ("open_tags", "score_comparisons", "single_verdicts", "pairwise_verdicts")
FOLLOWS = ("raw_dataset", "normalized_tags", "sample_clusters", "contrastive_scores")

pytestmark = pytest.mark.e2e


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "home"


def tables(home: Path, names: tuple[str, ...]) -> dict[str, list[pl.DataFrame]]:
    lake = Lake(str(home / "lake"))
    return {
        name: [
            lake.read(name, partition).sort(TABLES[name].key) for partition in lake.partitions(name)
        ]
        for name in names
    }


def test_it_opens_and_pays_for_nothing_again(home, models_dir):
    kept = tables(home, (*PAID, *FOLLOWS, "selected_subset"))
    settings = (home / "settings.toml").read_text()
    with counting_model() as model:
        for name, value in (("URL", model.url), ('"MODELS"', json.dumps(str(models_dir)))):
            settings = settings.replace(name, value)
        (home / "settings.toml").write_text(settings)
        for words in COMMANDS:
            ran = opencs(home, *(str(home / word) if "/" in word else word for word in words))
            assert ran.returncode == 0, (words, ran.stdout[-3000:], ran.stderr[-3000:])
        assert model.count() == 0
    now = tables(home, tuple(kept))
    for name, frames in kept.items():
        assert len(now[name]) == len(frames), name
        for before, after in zip(frames, now[name], strict=True):
            assert after.select(before.columns).equals(before), name


def test_one_of_a_newer_release_is_refused_and_left_as_it_is(home):
    (home / "lake" / "format.json").write_text('{"format": 2}')
    shutil.rmtree(home / "lake" / "clusters")
    before = {path: path.read_bytes() for path in (home / "lake").rglob("*") if path.is_file()}
    ran = opencs(home, "materialize", "raw_dataset", "--dataset", "small")
    assert ran.returncode == 1
    assert "has format 2, which a newer release of OpenCS wrote" in ran.stderr
    assert "Traceback" not in ran.stderr
    after = {path: path.read_bytes() for path in (home / "lake").rglob("*") if path.is_file()}
    assert after == before
