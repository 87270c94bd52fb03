"""A tiny model of random weights with the embedded model's tokenizer: a test takes seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from opencs_assets.checkpoints import states
from opencs_assets.checkpoints.job import TrainingJob, training_job
from opencs_assets.checkpoints.place import WORK
from opencs_assets.checkpoints.templates import chat_template
from opencs_assets.config.recipes import Recipe
from opencs_assets.tables.columns import MESSAGES
from resources.launcher.job import Channel, StoppedError
from resources.models import embedded_base_model
from resources.settings import TrainingSettings
from tests.integration.training.preloaded import Preloaded, preloaded

CONTEXT = 512
# Of the tokenizer's 49,152 the first: nine tenths of a step went into the others.
VOCABULARY = 2048
NO_SETTINGS = TrainingSettings()
FAST = Recipe(
    epochs=2,
    learning_rate=1e-3,
    max_length=128,
    per_device_batch_size=2,
    batch_size=4,
    neftune_alpha=5,
    max_new_tokens=12,
)


def shorten(tokenizer: Path) -> None:
    """Keep the first tokens of a byte-level BPE tokenizer, in which later ones are merged."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    model = content["model"]
    model["vocab"] = {name: at for name, at in model["vocab"].items() if at < VOCABULARY}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")


def make_tiny_model(models_dir: Path, folder: Path) -> None:
    """Write the model into a folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    AutoTokenizer.from_pretrained(embedded_base_model(models_dir)).save_pretrained(folder)
    shorten(folder / "tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(models_dir, folder)
    return folder


def subset_of(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": [f"s{place}" for place in range(len(pairs))],
            "system": [None] * len(pairs),
            "messages": [
                [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]
                for ask, say in pairs
            ],
        },
        schema={"sample_id": pl.String, "system": pl.String, "messages": MESSAGES},
    )


@pytest.fixture(scope="session")
def samples_of() -> Callable[[list[tuple[str, str]]], pl.DataFrame]:
    """Makes a subset of pairs of question and answer."""
    return subset_of


@pytest.fixture(scope="session")
def fast() -> Recipe:
    """The recipe that jobs have where nothing else is said."""
    return FAST


@pytest.fixture(scope="session")
def samples() -> pl.DataFrame:
    """Ten samples, one of them longer than the limit."""
    pairs = [(f"Say number {place}.", f"It is {place}. " * place) for place in range(1, 10)]
    return subset_of([*pairs, ("Count.", " ".join(str(number) for number in range(200)))])


MakeJob = Callable[..., tuple[TrainingJob, dict[str, Any]]]


def maker(tiny_model: Path, samples: pl.DataFrame, folder_of_test: Path) -> MakeJob:
    """What ``make_job`` is, for fixtures that several tests share."""

    def make(
        rows: pl.DataFrame = samples,
        *,
        force: bool = False,
        where: str = "d/e",
        settings: TrainingSettings = NO_SETTINGS,
        model: Path = tiny_model,
        folder: str | None = None,
        **recipe: Any,
    ) -> tuple[TrainingJob, dict[str, Any]]:
        own = {"steps", "tokens", "epochs"} & recipe.keys()
        values = FAST.model_dump(exclude={"epochs"} if own else None)
        resolved = Recipe.model_validate({**values, **recipe})
        place = f"{folder or folder_of_test / 'checkpoints'}/{where}"
        job = training_job(rows, resolved, model, chat_template(model), place)
        file = folder_of_test / f"{job.provenance[:8]}.parquet"
        rows.write_parquet(file)
        return job, {**job.as_json(settings, force=force), "samples": str(file)}

    return make


@pytest.fixture
def make_job(tiny_model: Path, samples: pl.DataFrame, tmp_path: Path) -> MakeJob:
    """Makes a training job and the content of its job file."""
    return maker(tiny_model, samples, tmp_path)


class Heard(Channel):
    """A channel that remembers what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def send(self, kind: str, payload: Mapping[str, Any]) -> None:
        self.lines.append(f"{kind}: {json.dumps(payload)}")


@pytest.fixture
def heard() -> Heard:
    return Heard()


def work_folder(job: TrainingJob, scratch: Path | None = None) -> Path:
    """Where a training works: beside the checkpoint, or in the scratch of a remote one."""
    output = Path(job.output)
    parent = output.parent if scratch is None else scratch / "opencs"
    return parent / f"{WORK}{output.name}"


def step_reached(job: TrainingJob, scratch: Path | None = None) -> int:
    """Step of the last complete state."""
    state = states.latest(work_folder(job, scratch) / "states")
    return state.step if state else 0


def until(condition: Callable[[], bool], process: "subprocess.Popen[Any] | None" = None) -> None:
    """Wait for a condition; a process that ends before it fails the test."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process is None or process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline, "nothing happened for five minutes"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def _preloaded() -> Iterator[Preloaded | None]:
    if shutil.which("nvidia-smi"):
        # A forked process can't use the GPU state that its parent set up.
        yield None
        return
    with preloaded() as made:
        yield made


@pytest.fixture
def warm(_preloaded: Preloaded | None, monkeypatch: pytest.MonkeyPatch) -> Preloaded | None:
    """Trainings and answerings that a test starts need not import the libraries anew."""
    if _preloaded:
        monkeypatch.setattr(sys, "executable", str(_preloaded.python))
    return _preloaded


class Started:
    """A training in a process of its own; it says on ``stderr`` what it does."""

    def __init__(self, file: Path, warm: Preloaded | None, environment: Mapping[str, str]) -> None:
        self.warm, self.stderr = warm, file.with_suffix(".txt")
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "opencs_assets.checkpoints.train", str(file)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **environment},
            )

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, before which the process must not end."""
        until(condition, self.process)

    def until_said(self, text: str) -> None:
        """Wait for what the process says."""
        self.until(lambda: text in self.stderr.read_text())

    def ended(self) -> int:
        """Wait for the end; gives the exit status."""
        return self.process.wait()

    def result(self) -> dict[str, Any]:
        """Wait for the end; gives the result."""
        stdout, _ = self.process.communicate()
        assert self.process.returncode == 0, self.stderr.read_text()
        return json.loads(stdout.splitlines()[-1])

    def kill(self) -> None:
        """Kill the very process that trains, and wait for its end."""
        os.kill(self.warm.child(self.process) if self.warm else self.process.pid, signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL


StartTraining = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path, warm: Preloaded | None) -> Iterator[StartTraining]:
    """Starts a job as a process of its own."""
    running: list[Started] = []

    def start(content: Mapping[str, Any], **environment: str) -> Started:
        file = tmp_path / f"job-{len(running)}.json"
        file.write_text(json.dumps(content))
        running.append(Started(file, warm, environment))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.kill()
        each.process.stdout.close()


def stopped_at(job: TrainingJob, step: int, work: Callable[[], Any]) -> None:
    """Do a job in this process, which gets SIGTERM as soon as the state of a step is kept."""
    seal = states.seal

    def sealed(folder: Path, notes: Mapping[str, Any]) -> None:
        seal(folder, notes)
        if states.step_of(folder.name) == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(states, "seal", sealed)
        with pytest.raises(StoppedError, match="the state is kept in"):
            work()
