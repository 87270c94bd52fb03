"""Several processes for one training: data parallelism and ZeRO on two CPU processes."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.checkpoints.train import work
from resources.launcher.job import Channel, JobError, StoppedError
from resources.settings import TrainingSettings
from tests.integration.training.conftest import (
    maker,
    step_reached,
    until,
    work_folder,
)

pytestmark = pytest.mark.train
# No noise: each process draws its own.
PLAIN = {"steps": 8, "neftune_alpha": 0, "batch_size": 4, "per_device_batch_size": 2}
OFTEN = TrainingSettings(save_every_steps=2)


def started_workers() -> list[int]:
    """Workers that this process has started."""
    own = os.getpid()
    # Several threads start processes; a process stands with the thread that did.
    tasks = Path(f"/proc/{own}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    return [
        int(child)
        for child in children
        if "checkpoints.worker" in Path(f"/proc/{child}/cmdline").read_text()
    ]


@contextmanager
def meanwhile(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Act once a condition holds, while this thread works."""

    def wait_and_act() -> None:
        until(condition)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()


def stop() -> None:
    """Tell this process to stop, as Kubernetes does."""
    os.kill(os.getpid(), signal.SIGTERM)


def tensors(job):
    from safetensors.torch import load_file

    return load_file(Path(job.output) / "model.safetensors")


@pytest.fixture(scope="module")
def eight(samples) -> pl.DataFrame:
    """As many as fill whole steps: to fill the last one, processes see a sample twice."""
    return samples.head(8)


@pytest.fixture(scope="module")
def alone(tiny_model, eight, tmp_path_factory):
    """Result and weights of the same recipe in one process."""
    job, content = maker(tiny_model, eight, tmp_path_factory.mktemp("alone"))(**PLAIN)
    return work(content, Channel()), tensors(job)


@pytest.fixture(scope="module")
def make_shared(tiny_model, eight, tmp_path_factory):
    return maker(tiny_model, eight, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def trained(make_shared):
    """Trains each recipe once, in two processes; gives job and result."""
    done = {}

    def trained(**recipe):
        key = tuple(sorted(recipe.items()))
        if key not in done:
            job, content = make_shared(where="whole", settings=OFTEN, **PLAIN, **recipe)
            done[key] = (job, work({**content, "processes": 2}, Channel()))
        return done[key]

    return trained


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param({"zero": 0}, id="ddp", marks=pytest.mark.soak),
        pytest.param({"zero": 2}, id="zero2", marks=pytest.mark.soak),
        pytest.param({"zero": 3}, id="zero3"),
        pytest.param({"zero": 3, "offload": True}, id="offload", marks=pytest.mark.soak),
    ],
)
def test_two_processes_train_as_one(trained, alone, recipe, warm):
    import torch
    from transformers import AutoModelForCausalLM

    job, result = trained(**recipe)
    whole, expected = alone
    assert (result["devices"], result["steps"], result["epochs"]) == (2, 8, whole["epochs"])
    assert result["tokens"] == whole["tokens"]
    for name in ("loss", "learning_rate", "grad_norm"):
        found = [row[name] for row in result["log"]]
        assert found == pytest.approx([row[name] for row in whole["log"]], rel=1e-3), name
    found = tensors(job)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.allclose(found[name], tensor, atol=2e-4), name
    model = AutoModelForCausalLM.from_pretrained(job.output)
    assert model.config.use_cache
    assert job.stored() is not None
    assert not work_folder(job).exists()


def test_one_process_may_use_zero_too(make_shared, alone):
    """As one GPU does that has not the memory for the optimizer's state; its worker starts cold."""
    import torch

    job, content = make_shared(where="single", **PLAIN, zero=3, offload=True)
    result = work(content, Channel())
    whole, expected = alone
    assert [row["loss"] for row in result["log"]] == pytest.approx(
        [row["loss"] for row in whole["log"]], rel=1e-3
    )
    for name, tensor in expected.items():
        assert torch.allclose(tensors(job)[name], tensor, atol=2e-4), name


@pytest.mark.soak
@pytest.mark.parametrize("zero", [2, 3])
def test_zero_goes_on_from_its_state(trained, make_shared, zero, heard, warm):
    import torch

    job, content = make_shared(where=f"stopped{zero}", settings=OFTEN, **PLAIN, zero=zero)
    content["processes"] = 2
    with (
        meanwhile(lambda: step_reached(job) >= 2, stop),
        pytest.raises(StoppedError, match="the state is kept in"),
    ):
        work(content, Channel())
    reached = step_reached(job)
    if zero == 2:
        with pytest.raises(JobError, match=r"written by 2 processes.*not 1"):
            work({**content, "processes": 1}, Channel())
    result = work(content, heard)
    assert result["resumed_from_step"] == reached
    assert f"going on from the state of step {reached} of 8" in heard.lines
    whole, expected = trained(zero=zero)
    assert [row["loss"] for row in result["log"]] == [row["loss"] for row in expected["log"]]
    assert result["tokens"] == expected["tokens"]
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensors(job)[name], tensor), name


@pytest.mark.soak
def test_a_workers_error_is_the_error_of_the_run(make_shared, warm):
    job, content = make_shared(where="nan", **{**PLAIN, "learning_rate": 1e30})
    with pytest.raises(JobError, match=r"(loss|grad_norm) is (nan|inf) at step \d of 8; lower"):
        work({**content, "processes": 2}, Channel())
    assert not Path(job.output).exists()


@pytest.mark.soak
def test_a_killed_worker_ends_the_run(make_shared, warm):
    """The other one would wait for it for ever."""
    job, content = make_shared(where="killed", settings=OFTEN, **{**PLAIN, "steps": 100_000})

    def kill() -> None:
        os.kill(started_workers()[-1], signal.SIGKILL)

    with (
        meanwhile(lambda: step_reached(job) >= 2, kill),
        pytest.raises(RuntimeError, match=r"killed by SIGKILL|ended with|closed|reset"),
    ):
        work({**content, "processes": 2}, Channel())
    assert step_reached(job) >= 2


def test_a_batch_that_can_not_be_shared_is_refused(make_shared):
    _, content = make_shared(where="uneven", **PLAIN)
    with pytest.raises(JobError, match=r"can't be shared by 3 devices.*a multiple of 6"):
        work({**content, "processes": 3}, Channel())


def test_workers_told_to_stop_before_they_began_are_no_failure(make_shared):
    _, content = make_shared(where="early", **PLAIN)
    content["processes"] = 2
    # They start cold and import for seconds; this process listens at once.
    with (
        meanwhile(lambda: len(started_workers()) == 2, lambda: (time.sleep(0.5), stop())),
        pytest.raises(StoppedError, match="told to stop before the training began"),
    ):
        work(content, Channel())
