"""Answers of a checkpoint that is in object storage: copied once, verified, and cleared away."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.answers.generate import work
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources.launcher.job import Channel, JobError
from resources.provenance import MARKER, SHORT, content_hash, write_marker
from resources.remote import RemoteFolder, local_copy

pytestmark = pytest.mark.train
FIELDS = {"published": 1}
PROVENANCE = content_hash(FIELDS)
QUESTIONS = pl.DataFrame(
    [
        {
            "benchmark": "own",
            "question_id": name,
            "category": "math",
            "turns": turns,
            "references": [],
        }
        for name, turns in (("1", ["Say one.", "And two."]), ("2", ["Why?"]))
    ],
    schema=BENCHMARK_QUESTIONS.schema,
)


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's files as a whole checkpoint."""
    folder = tmp_path_factory.mktemp("here") / PROVENANCE[:SHORT]
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.is_file() and file.name != MARKER:
            (folder / file.name).symlink_to(file)
    write_marker(folder, PROVENANCE, FIELDS, {})
    return folder


@pytest.fixture
def url(checkpoint: Path, tmp_path: Path) -> str:
    """Where the checkpoint was published to."""
    url = f"file://{tmp_path}/bucket/{checkpoint.name}"
    RemoteFolder(url).push(checkpoint, MARKER)
    return url


@pytest.fixture
def job(tmp_path: Path):
    def job(place: str, name: str) -> dict:
        QUESTIONS.write_parquet(tmp_path / "questions.parquet")
        return {
            "checkpoint": place,
            "scratch": str(tmp_path / "scratch"),
            "provenance": PROVENANCE,
            "questions": str(tmp_path / "questions.parquet"),
            "outputs": {"own": str(tmp_path / name / "own.parquet")},
            "fields": {
                "own": answer_fields(
                    PROVENANCE, QUESTIONS, sampling_of("own"), max_new_tokens=4, seed=0
                )
            },
            "batch_size": 2,
        }

    return job


def copies(job: dict) -> list[Path]:
    return [path for path in Path(job["scratch"]).rglob("*") if path.is_file()]


def test_answers_from_a_url_are_those_from_the_folder(job, url, checkpoint, tmp_path):
    here, there = job(str(checkpoint), "here"), job(url, "there")
    assert work(here, Channel()) == work(there, Channel()) == {"generated": 3, "kept": 0}
    assert pl.read_parquet(here["outputs"]["own"]).equals(pl.read_parquet(there["outputs"]["own"]))
    assert copies(there) == []
    # What is answered already needs no copy.
    shutil.rmtree(tmp_path / "scratch")
    assert work(there, Channel()) == {"generated": 0, "kept": 3}
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file.unlink(), "is missing"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1]),
            r"has \d+ bytes, was written with \d+",
        ),
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"), "was changed since"),
    ],
)
def test_a_spoiled_object_is_named_and_nothing_is_answered(job, url, tmp_path, spoil, says):
    spoil(Path(url.removeprefix("file://")) / "config.json")
    asked = job(url, "spoiled")
    with pytest.raises(JobError, match=rf"config\.json {says}.*materialize the checkpoint again"):
        work(asked, Channel())
    assert not Path(asked["outputs"]["own"]).exists()


def test_another_checkpoint_at_the_url_is_refused(job, url):
    with pytest.raises(JobError, match="is another output"):
        work({**job(url, "other"), "provenance": content_hash({"published": 2})}, Channel())


def test_a_copy_cut_short_is_made_whole_and_weights_come_only_where_they_are_wanted(url, tmp_path):
    copy = local_copy(url, PROVENANCE, tmp_path / "copies", leave_out=("*.safetensors",))
    assert (copy / "tokenizer.json").is_file()
    assert not list(copy.glob("*.safetensors"))
    (copy / "config.json").write_bytes(b"{")
    assert local_copy(url, PROVENANCE, tmp_path / "copies") == copy
    whole = {path.name: path.stat().st_size for path in copy.iterdir()}
    assert whole == RemoteFolder(url).sizes()
