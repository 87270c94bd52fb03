"""Trainings that are killed, told to stop or begun anew: the weights are those of a whole one."""

import shutil
import signal
from pathlib import Path

import pytest

from opencs_assets.checkpoints import states
from opencs_assets.checkpoints.train import work
from resources.launcher.job import EXIT_STOPPED, Channel
from resources.settings import TrainingSettings
from tests.integration.training.conftest import (
    maker,
    step_reached,
    stopped_at,
    work_folder,
)

pytestmark = pytest.mark.train
OFTEN = TrainingSettings(save_every_steps=4)
MANY = {"steps": 40, "neftune_alpha": 5, "deterministic": True}


def weights(job) -> bytes:
    return (Path(job.output) / "model.safetensors").read_bytes()


def curve(result) -> list[tuple]:
    return [
        (row["step"], row["loss"], row["learning_rate"], row["grad_norm"], row["tokens"])
        for row in result["log"]
    ]


@pytest.fixture(scope="module")
def whole(tiny_model, samples, tmp_path_factory):
    """The result and the weights of the training that nothing stopped."""
    job, content = maker(tiny_model, samples, tmp_path_factory.mktemp("whole"))(
        settings=OFTEN, **MANY
    )
    result = work(content, Channel())
    assert result["resumed_from_step"] is None
    return result, weights(job)


def test_a_killed_training_ends_in_the_same_weights(make_job, start, whole, heard):
    job, content = make_job(settings=OFTEN, **MANY)
    process = start(content)
    process.until(lambda: step_reached(job) >= 8)
    process.kill()
    assert not Path(job.output).exists()
    reached = step_reached(job)
    # What a process leaves that is killed while it writes: all of a later state but its mark.
    half = work_folder(job) / "states" / "checkpoint-39"
    half.mkdir()
    for path in (work_folder(job) / "states" / f"checkpoint-{reached}").iterdir():
        if path.name != states.COMPLETE:
            (half / path.name).write_bytes(path.read_bytes()[:-1])

    result = work(content, heard)
    assert 8 <= reached < 40
    assert result["resumed_from_step"] == reached
    assert f"going on from the state of step {reached} of 40" in heard.lines
    assert curve(result) == curve(whole[0])
    assert (result["tokens"], result["epochs"]) == (whole[0]["tokens"], whole[0]["epochs"])
    assert weights(job) == whole[1]
    assert not work_folder(job).exists()


@pytest.mark.soak
def test_sigterm_keeps_the_state_of_the_very_step(make_job, start, whole):
    """As Kubernetes ends a pod: the process says so by its status, and a repeat goes on."""
    job, content = make_job(settings=TrainingSettings(save_every_steps=1000), **MANY)
    process = start(content)
    # The handler is there once the trainer was made; before it the process just ends.
    process.until_said("0/40 steps")
    process.process.send_signal(signal.SIGTERM)
    assert process.ended() == EXIT_STOPPED
    reached = step_reached(job)
    assert 1 <= reached < 40
    told = process.stderr.read_text()
    assert f"stopped: stopped at step {reached} of 40; the state is kept in" in told
    assert not Path(job.output).exists()

    result = work(content, Channel())
    assert result["resumed_from_step"] == reached
    assert curve(result) == curve(whole[0])
    assert weights(job) == whole[1]


@pytest.mark.soak
def test_force_forgets_the_states(make_job, whole):
    job, content = make_job(settings=OFTEN, **MANY)
    stopped_at(job, 4, lambda: work(content, Channel()))
    assert step_reached(job) >= 4
    result = work({**content, "force": True}, Channel())
    assert result["resumed_from_step"] is None
    assert weights(job) == whole[1]


@pytest.mark.soak
def test_a_training_that_could_not_publish_only_saves_again(make_job, whole):
    """All steps were done; what was half saved of the checkpoint is no part of the next one."""
    job, content = make_job(settings=OFTEN, **MANY)
    folder, output = work_folder(job), Path(job.output)
    # The checkpoint can't be moved into place: what is there can't be moved away.
    for each in (output, folder / "replaced"):
        each.mkdir(parents=True)
        (each / "something").write_text("else")
    with pytest.raises(OSError, match="not empty"):
        work(content, Channel())
    assert step_reached(job) == 40
    for name in (".opencs.json", "model-00001-of-00002.safetensors"):
        (folder / "checkpoint" / name).write_text("half")
    shutil.rmtree(folder / "replaced")

    result = work(content, Channel())
    assert result["resumed_from_step"] == 40
    assert curve(result) == curve(whole[0])
    assert weights(job) == whole[1]
    assert job.stored() is not None
    assert not list(output.glob("model-*")) + list(output.glob(".opencs*"))
    assert not folder.exists()


def test_no_more_states_are_kept_than_asked_for(make_job):
    job, content = make_job(settings=TrainingSettings(save_every_steps=1, keep_states=1), steps=100)
    stopped_at(job, 3, lambda: work(content, Channel()))
    found = [each.name for each in (work_folder(job) / "states").glob("checkpoint-*")]
    assert found == [f"checkpoint-{step_reached(job)}"]
