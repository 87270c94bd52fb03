"""Bad input: one clear error that says what is wrong, where, and what to do."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opencs_assets.checkpoints.train import work
from resources.launcher.job import EXIT_JOB_ERROR, Channel, JobError
from resources.settings import TrainingSettings
from tests.integration.training.conftest import step_reached, work_folder

pytestmark = pytest.mark.train


def copied(model: Path, folder: Path, **config) -> Path:
    shutil.copytree(model, folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": {"epoch": 3}}, r"recipe of the job for .* can't be used: epoch: Extra inputs"),
        ({"recipe": {"learning_rate": -1}}, r"learning_rate: Input should be greater than 0"),
        ({"recipe": {"epochs": 1, "steps": 1}}, r"epochs and steps are both budgets; give one"),
        ({"settings": {"keep": 1}}, r"training of the job for .* can't be used: keep: Extra"),
        ({"samples": "/nowhere.parquet"}, r"the samples /nowhere.parquet can't be read"),
        ({"base_model": "/nowhere"}, r"base model /nowhere has no config.json with"),
        ({"chat_template": "{{ other }}"}, r"made from other inputs: template differ"),
    ],
)
def test_a_job_that_does_not_fit_is_told_in_one_line(make_job, change, says):
    job, content = make_job()
    with pytest.raises(JobError, match=says) as raised:
        work({**content, **change}, Channel())
    assert "\n" not in str(raised.value)
    assert not Path(job.output).parent.exists()


def test_a_job_without_its_parts_is_told(make_job):
    _, content = make_job()
    del content["recipe"], content["fields"]
    with pytest.raises(JobError, match="the job has no recipe, fields; it needs samples"):
        work(content, Channel())


def test_an_unknown_setting_ends_the_script_without_a_traceback(make_job, start):
    _, content = make_job()
    process = start({**content, "recipe": {**content["recipe"], "max_len": 3}})
    assert process.ended() == EXIT_JOB_ERROR
    told = process.stderr.read_text()
    assert "error: recipe of the job for" in told
    assert "max_len" in told
    assert "Traceback" not in told


def test_a_limit_over_the_models_context_is_refused(make_job):
    _, content = make_job(max_length=513)
    with pytest.raises(JobError, match="max_length 513 is more than the 512 tokens that"):
        work(content, Channel())


def test_a_model_of_another_kind_is_refused(make_job, tiny_model, tmp_path):
    _, content = make_job()
    encoder = copied(tiny_model, tmp_path / "encoder", architectures=["BertForMaskedLM"])
    with pytest.raises(JobError, match=r"encoder is no causal language model.*BertForMaskedLM"):
        work({**content, "base_model": str(encoder)}, Channel())


def test_the_checkpoint_of_another_experiment_is_never_replaced(make_job):
    one, first = make_job(steps=1)
    two, second = make_job(steps=1, seed=5)
    work(first, Channel())
    Path(one.output).rename(two.output)
    before = (Path(two.output) / "opencs.json").read_bytes()
    for force in (False, True):
        with pytest.raises(JobError, match=r"holds another checkpoint.*move that folder away"):
            work({**second, "force": force}, Channel())
    assert (Path(two.output) / "opencs.json").read_bytes() == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"only root may mount a small file system ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Fills(Channel):
    """Somebody else fills the disk once the training begins."""

    def __init__(self, disk: Path, leave: int) -> None:
        super().__init__()
        self.disk, self.leave = disk, leave

    def say(self, text: str) -> None:
        if text.startswith("training on"):
            with (self.disk / "ballast").open("wb") as file:
                file.write(b"x" * (shutil.disk_usage(self.disk).free - self.leave))


@pytest.mark.parametrize("state", [True, False], ids=["a state fits", "none fits"])
def test_a_full_disk_is_told_and_what_is_whole_is_kept(make_job, small_disk, state):
    job, content = make_job(
        folder=str(small_disk / "c"), settings=TrainingSettings(save_every_steps=1), steps=6
    )
    with pytest.raises(JobError, match=r"the disk of .* is full .*Make room") as raised:
        work(content, Fills(small_disk, 5_000_000 if state else 1_000_000))
    assert ("the state of step 1 is kept" if state else "no state is kept") in str(raised.value)
    assert not Path(job.output).exists()
    assert step_reached(job) == int(state)
    assert work_folder(job).exists() == state

    (small_disk / "ballast").unlink()
    result = work(content, Channel())
    assert result["resumed_from_step"] == (1 if state else None)
    assert result["steps"] == 6


def test_a_disk_that_is_too_small_is_told_before_training(make_job, small_disk):
    job, content = make_job(folder=str(small_disk / "c"), settings=TrainingSettings(keep_states=9))
    with pytest.raises(JobError, match=r"0.0 GB free, and training .* takes about 0.0 GB there"):
        work(content, Channel())
    assert not Path(job.output).exists()


class Hub(BaseHTTPRequestHandler):
    """Refuses as the hub does: by status and by the header ``X-Error-Code``."""

    def do_GET(self) -> None:
        status, code = (
            (403, "GatedRepo")
            if "org/gated" in self.path
            else (400, "")
            if "org/broken" in self.path
            else (404, "RepoNotFound")
        )
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: the test reads what the client says."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ASKING = """
import sys
from pathlib import Path
from opencs_assets.checkpoints.assets import base_model_folder
from opencs_assets.checkpoints.provenance import BaseModelError
from resources.settings import Settings, TrainingSettings

for source, download in (("org/gated", True), ("org/unknown", True), ("org/broken", True),
                         ("org/there", False), ("not a name", False)):
    try:
        print(base_model_folder(source, Settings(training=TrainingSettings(download=download))))
    except BaseModelError as error:
        print(" ".join(str(error).split()))
"""


def test_a_base_model_of_the_hub_is_told_by_what_the_hub_says(hub, tmp_path):
    """The hub is a server of ours; its answers have the status and the headers of the real one."""
    asked = subprocess.run(
        [sys.executable, "-c", ASKING],
        env={
            **{name: each for name, each in os.environ.items() if name != "HF_HUB_OFFLINE"},
            "HF_ENDPOINT": hub,
            "HF_HOME": str(tmp_path / "hf"),
            "OPENCS_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    gated, unknown, broken, offline, no_name = asked.stdout.splitlines()
    assert gated.startswith("base model 'org/gated' is gated: accept its licence")
    assert "the hub has no base model 'org/unknown'" in unknown
    assert broken.startswith("base model 'org/broken' can't be fetched: ")
    for told in (offline, no_name):
        assert "is neither a folder nor in the local Hugging Face cache" in told
