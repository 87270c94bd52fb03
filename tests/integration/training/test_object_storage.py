"""Checkpoints in object storage: a real S3 server, whose states outlive the trainer's disk."""

import json
import shutil
from pathlib import Path

import fsspec
import pytest

from opencs_assets.checkpoints.train import work
from resources.launcher.job import Channel
from resources.provenance import MARKER, ProvenanceError
from resources.remote import RemoteFolder, local_copy, read_remote_marker, verify_remote
from resources.settings import TrainingSettings
from tests.integration.servers.s3 import s3_bucket
from tests.integration.training.conftest import (
    maker,
    step_reached,
    stopped_at,
    work_folder,
)

pytestmark = pytest.mark.train
MANY = {"steps": 20, "neftune_alpha": 5}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """URL of a bucket of a server of this module's own."""
    with s3_bucket(tmp_path_factory.mktemp("s3")) as url:
        yield url


def names(url: str) -> set[str]:
    return set(RemoteFolder(url).sizes())


@pytest.fixture(scope="module")
def published(tiny_model, samples, bucket, tmp_path_factory):
    """A checkpoint that was stopped, lost its disk, and went on elsewhere; and what was seen."""
    folder = tmp_path_factory.mktemp("remote")
    make = maker(tiny_model, samples, folder)
    whole, content = make(where="whole", **MANY)
    expected = work(content, Channel())

    first, second = folder / "scratch-1", folder / "scratch-2"
    settings = TrainingSettings(save_every_steps=4, scratch=first)
    job, content = make(folder=f"{bucket}/checkpoints", settings=settings, **MANY)
    stopped_at(job, 4, lambda: work(content, Channel()))
    reached = step_reached(job, first)
    kept = f"{job.output.rsplit('/', 1)[0]}/{work_folder(job).name}"
    before = names(kept)
    # A state that was being copied when the machine died.
    fsspec.filesystem("s3").pipe_file(f"{kept}/checkpoint-19/model.safetensors", b"half")
    shutil.rmtree(first)
    moved = TrainingSettings(save_every_steps=4, scratch=second)
    result = work({**content, "settings": moved.model_dump(mode="json")}, Channel())
    return {
        "job": job,
        "content": content,
        "result": result,
        "expected": expected,
        "weights": (Path(whole.output) / "model.safetensors").read_bytes(),
        "reached": reached,
        "kept": kept,
        "before": before,
        "scratch": second,
    }


def test_a_lost_disk_costs_no_step_that_was_kept(published):
    job, result, reached = published["job"], published["result"], published["reached"]
    assert f"checkpoint-{reached}/complete.json" in published["before"]
    # As many states as asked for, each whole.
    assert len({name.split("/")[0] for name in published["before"]}) <= 2
    assert result["resumed_from_step"] == reached
    assert [row["loss"] for row in result["log"]] == [
        row["loss"] for row in published["expected"]["log"]
    ]
    found = RemoteFolder(job.output)
    assert found._fs.cat_file(f"{found._root}/model.safetensors") == published["weights"]
    # The states have done their duty, there and here.
    assert names(published["kept"]) == set()
    assert not list(published["scratch"].rglob("checkpoint*"))


def test_the_published_checkpoint_is_whole_and_reused(published, heard):
    job = published["job"]
    marker = verify_remote(job.output, job.provenance)
    assert set(marker.files) | {MARKER} == names(job.output)
    assert job.stored()["steps"] == 20
    again = work(published["content"], heard)
    assert again["reused"]
    assert heard.lines == []


def test_a_copy_is_made_once_and_has_the_very_bytes(published, tmp_path):
    job = published["job"]
    copy = local_copy(job.output, job.provenance, tmp_path)
    assert (copy / "model.safetensors").read_bytes() == published["weights"]
    (copy / "model.safetensors").write_bytes(b"short")
    assert local_copy(job.output, job.provenance, tmp_path) == copy
    assert (copy / "model.safetensors").read_bytes() == published["weights"]
    made = (copy / "model.safetensors").stat().st_mtime_ns
    assert local_copy(job.output, job.provenance, tmp_path) == copy
    assert (copy / "model.safetensors").stat().st_mtime_ns == made
    assert local_copy(str(copy), job.provenance, tmp_path) == copy


def test_harm_in_the_bucket_is_found(published, bucket, tmp_path):
    job = published["job"]
    local_copy(job.output, job.provenance, tmp_path)
    harmed = f"{bucket}/harmed"
    RemoteFolder(harmed).push(tmp_path / job.provenance[:16], MARKER)
    assert verify_remote(harmed, job.provenance)
    files = fsspec.filesystem("s3")
    files.pipe_file(f"{harmed}/model.safetensors", b"short")
    with pytest.raises(ProvenanceError, match=r"model.safetensors has 5 bytes, was written with"):
        verify_remote(harmed, job.provenance)
    files.rm_file(f"{harmed}/model.safetensors")
    with pytest.raises(ProvenanceError, match=r"model.safetensors is missing"):
        verify_remote(harmed, job.provenance)
    with pytest.raises(ProvenanceError, match="is another output"):
        verify_remote(harmed, "0" * 64)
    files.rm_file(f"{harmed}/{MARKER}")
    with pytest.raises(ProvenanceError, match="is not complete"):
        read_remote_marker(harmed)


def test_the_marker_is_the_last_to_come_and_the_first_to_go(tmp_path):
    """Also where a checkpoint replaces another: in between there is none."""
    files = fsspec.filesystem("memory")
    for name in ("a", "z", MARKER, "sub/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"of": name}))
    folder = RemoteFolder("memory://bucket/checkpoint")
    folder.push(tmp_path, MARKER)
    first = {name: files.created(f"/bucket/checkpoint/{name}") for name in folder.sizes()}
    assert set(first) == {"a", "z", MARKER, "sub/z"}
    assert max(first, key=first.__getitem__) == MARKER
    # The push that replaces it ends half-way: a file can't be read.
    (tmp_path / "z").unlink()
    (tmp_path / "z").mkdir()
    (tmp_path / "b").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=r"Errno (5|22)"):
        folder.push(tmp_path, MARKER)
    assert MARKER not in folder.sizes()
    assert folder.read_json(MARKER) is None
