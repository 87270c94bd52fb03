"""Training states and the places that they are kept in, here and in object storage."""

import shutil
from pathlib import Path

import pytest

from opencs_assets.checkpoints import states
from opencs_assets.checkpoints.place import TrainingPlace, stored, stored_template
from opencs_assets.checkpoints.templates import TemplateError
from resources.launcher.job import JobError
from resources.provenance import MARKER, SHORT, content_hash, write_marker
from resources.remote import RemoteFolder

FIELDS = {"what": "a test"}
PROVENANCE = content_hash(FIELDS)


def state(folder: Path, step: int, *, whole: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    (made / "global_step").mkdir(parents=True)
    (made / "model.safetensors").write_text(f"weights {step}")
    (made / "global_step" / "optimizer.pt").write_text("moments")
    if whole:
        states.seal(made, {"tokens": 10 * step})
    return made


def steps(folder: Path) -> set[int]:
    return {states.step_of(path.name) for path in folder.glob("checkpoint-*")}


def test_the_last_complete_state_is_that_of_the_latest_step(tmp_path):
    assert states.latest(tmp_path) is None
    for step in (9, 10, 2):
        state(tmp_path, step)
    state(tmp_path, 11, whole=False)
    found = states.latest(tmp_path)
    assert found == states.State(10, tmp_path / "checkpoint-10", {"tokens": 100})
    states.remove_incomplete(tmp_path)
    assert steps(tmp_path) == {2, 9, 10}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", None),
        ("model.safetensors", "weights"),
        ("global_step/optimizer.pt", "moment"),
        (states.COMPLETE, None),
        (states.COMPLETE, "{"),
        (states.COMPLETE, "[]"),
        (states.COMPLETE, '{"files": {}}'),
        (states.COMPLETE, '{"files": [], "kept": {}}'),
    ],
)
def test_a_state_that_is_not_whole_does_not_count(tmp_path, name, content):
    file = state(tmp_path, 1) / name
    assert states.read(file.parents[name.count("/")])
    file.unlink() if content is None else file.write_text(content)
    assert states.read(tmp_path / "checkpoint-1") is None


@pytest.mark.parametrize(("most", "left"), [(1, {10}), (2, {9, 10}), (3, {2, 9, 10})])
def test_only_the_last_states_are_kept(tmp_path, most, left):
    for step in (9, 10, 2):
        state(tmp_path, step)
    state(tmp_path, 5, whole=False)
    states.keep_last(tmp_path, most)
    assert steps(tmp_path) == left | {5}


@pytest.fixture
def remote(tmp_path: Path) -> TrainingPlace:
    url = f"file://{tmp_path}/bucket/d/e/{PROVENANCE[:SHORT]}"
    return TrainingPlace(url, PROVENANCE, str(tmp_path / "scratch"))


def test_a_training_works_beside_its_checkpoint_or_on_its_own_disk(tmp_path, remote):
    here = TrainingPlace(str(tmp_path / "d" / "made"), PROVENANCE, str(tmp_path / "scratch"))
    assert here.folder == tmp_path / "d" / f".training-{PROVENANCE[:SHORT]}"
    assert here.lock == tmp_path / "d" / ".training.lock"
    assert remote.folder == tmp_path / "scratch" / "opencs" / f".training-{PROVENANCE[:SHORT]}"
    assert remote.lock == tmp_path / "scratch" / "opencs" / f"{PROVENANCE[:SHORT]}.lock"


def test_object_storage_keeps_the_last_states_and_gives_back_a_later_one(remote, tmp_path):
    assert remote.restore() is None
    for step in (9, 10, 11):
        remote.keep(state(remote.states, step), 2)
    bucket = tmp_path / "bucket" / "d" / "e" / remote.folder.name
    assert steps(bucket) == {10, 11}
    # The upload of a later one was broken off, and of this disk an earlier state is left.
    (bucket / "checkpoint-12").mkdir()
    (bucket / "checkpoint-12" / "model.safetensors").write_text("half")
    shutil.rmtree(remote.states)
    state(remote.states, 4)
    state(remote.states, 13, whole=False)
    found = remote.restore()
    assert found == states.State(11, remote.states / "checkpoint-11", {"tokens": 110})
    assert steps(remote.states) == {4, 11}
    # What is here already is not fetched again.
    (bucket / "checkpoint-11" / "model.safetensors").write_text("WEIGHTS 1")
    assert remote.restore() == found
    assert (found.folder / "model.safetensors").read_text() == "weights 11"
    remote.clear()
    assert not bucket.exists()
    assert not remote.folder.exists()


@pytest.mark.parametrize("kind", ["here", "remote"])
def test_a_forced_launch_begins_anew_once(kind, remote, tmp_path):
    place = remote if kind == "remote" else TrainingPlace(str(tmp_path / "a"), PROVENANCE, None)

    def begun(launch: str) -> set[int]:
        state(place.states, 3)
        place.begin_anew(launch)
        kept = steps(place.states)
        shutil.rmtree(place.states, ignore_errors=True)
        return kept

    assert begun("one") == set()
    assert begun("one") == {3}
    assert begun("two") == set()
    assert begun("") == set()
    assert begun("") == set()
    assert begun("two") == set()
    if kind == "remote":
        shutil.rmtree(place.folder)
        assert begun("two") == {3}


def test_a_checkpoint_replaces_another_one_whole(tmp_path):
    place = TrainingPlace(str(tmp_path / "made"), PROVENANCE, None)
    for content in ("first", "second"):
        place.made.mkdir(parents=True)
        (place.made / "model.safetensors").write_text(content)
        write_marker(place.made, PROVENANCE, FIELDS, {"steps": 3})
        place.publish()
        assert [path.name for path in tmp_path.iterdir()] == ["made"]
        assert (tmp_path / "made" / "model.safetensors").read_text() == content


def test_other_work_is_that_of_other_trainings_beside_this_one(tmp_path, remote):
    place = TrainingPlace(str(tmp_path / "made"), PROVENANCE, None)
    for name in (place.folder.name, ".training-other", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / ".training-file").write_text("")
    assert place.others() == [tmp_path / ".training-other"]
    remote.folder.with_name(".training-other").mkdir(parents=True)
    assert remote.others() == []


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_only_a_whole_checkpoint_of_this_provenance_is_stored(tmp_path, kind):
    output = str(tmp_path / "made") if kind == "folder" else f"file://{tmp_path}/made"
    assert stored(output, PROVENANCE) is None
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.safetensors").write_text("weights")
    write_marker(tmp_path / "made", PROVENANCE, FIELDS, {"steps": 3})
    assert stored(output, PROVENANCE) == {"steps": 3}
    with pytest.raises(JobError, match=r"holds another checkpoint.*move that folder away"):
        stored(output, content_hash({"what": "else"}))
    (tmp_path / "made" / "model.safetensors").unlink()
    assert stored(output, PROVENANCE) is None


def test_the_template_of_a_checkpoint_is_read_wherever_it_is(tmp_path):
    for output in (str(tmp_path / "made"), f"file://{tmp_path}/made"):
        with pytest.raises(TemplateError, match=r"has no chat|has no chat_template.jinja"):
            stored_template(output)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "chat_template.jinja").write_text("{{ messages }}")
    for output in (str(tmp_path / "made"), f"file://{tmp_path}/made"):
        assert stored_template(output) == "{{ messages }}"


def test_the_marker_completes_a_checkpoint_in_object_storage(remote, tmp_path):
    remote.made.mkdir(parents=True)
    (remote.made / "model.safetensors").write_text("weights")
    write_marker(remote.made, PROVENANCE, FIELDS, {"steps": 3})
    remote.publish()
    assert set(RemoteFolder(remote.output).sizes()) == {MARKER, "model.safetensors"}
    assert stored(remote.output, PROVENANCE) == {"steps": 3}
    assert not remote.folder.exists()
