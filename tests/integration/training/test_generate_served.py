"""Answers from an endpoint with the checkpoint: what is sent, what is kept, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from opencs_assets.answers import served
from opencs_assets.answers.asking import Renderer
from opencs_assets.answers.checks import one_answer_each
from opencs_assets.answers.generate import answer_seed, main, work
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.answers.served import EndpointError
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources import models
from resources.launcher.job import Channel, JobError
from resources.llm.embedded import EmbeddedServer
from resources.provenance import SHORT, content_hash, write_marker
from resources.settings import EMBEDDED_MODEL
from tests.integration.servers.started import started

pytestmark = pytest.mark.train
PROVENANCE = content_hash({"served": 1})
TOKENS = 16


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started("answer_server.py") as url:
        yield url


@pytest.fixture
def configure(url, monkeypatch):
    monkeypatch.setattr(served, "FIRST_WAIT_S", 0.01)

    def configure(**values) -> None:
        httpx.post(f"{url}/configure", json=values)

    configure()
    return configure


def linked(model: Path, folder: Path) -> Path:
    """A model's files as a checkpoint, in a folder named after its provenance."""
    folder = folder / PROVENANCE[:SHORT]
    folder.mkdir()
    for file in model.iterdir():
        if file.name != "opencs.json":
            (folder / file.name).symlink_to(file)
    write_marker(folder, PROVENANCE, {"served": 1}, {})
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Path, tmp_path_factory) -> Path:
    return linked(tiny_model, tmp_path_factory.mktemp("checkpoints"))


QUESTIONS = pl.DataFrame(
    [
        {
            "benchmark": "own",
            "question_id": f"q{at}",
            "category": category,
            "turns": turns,
            "references": [],
        }
        for at, (category, turns) in enumerate(
            [
                ("math", ["Why?", "And?"]),
                ("writing", ["How?", "So?"]),
                ("stem", ["Who?"]),
                ("math", ["word " * 600, "Short?"]),
            ]
        )
    ],
    schema=BENCHMARK_QUESTIONS.schema,
)


@pytest.fixture
def job(url, configure, checkpoint, tmp_path):
    """Makes a job of all questions for the server."""

    def job(
        folder: Path = checkpoint,
        place: dict | None = None,
        questions: pl.DataFrame = QUESTIONS,
        **more,
    ) -> dict:
        file = tmp_path / "questions.parquet"
        questions.write_parquet(file)
        fields = answer_fields(
            PROVENANCE,
            questions,
            sampling_of("own"),
            max_new_tokens=TOKENS,
            seed=0,
            served_as="d/e",
        )
        return {
            "checkpoint": str(folder),
            "provenance": PROVENANCE,
            "questions": str(file),
            "outputs": {"own": str(tmp_path / "out" / "own.parquet")},
            "fields": {"own": fields},
            "batch_size": 4,
            "endpoint": {
                "base_url": f"{url}/v1",
                "model": "d/e",
                "api_key_env": None,
                "concurrency": 4,
                "timeout_s": 20,
                **(place or {}),
            },
            **more,
        }

    return job


def answers(job: dict) -> pl.DataFrame:
    return pl.read_parquet(job["outputs"]["own"])


def test_the_prompt_is_the_checkpoints_own_template_and_sampling_is_the_benchmarks(
    job, url, checkpoint
):
    counts = work(job(), Channel())
    assert counts == {"generated": 7, "kept": 0}
    table = answers(job())
    assert one_answer_each(table, QUESTIONS).passed
    renderer = Renderer(checkpoint)
    asked = {body["seed"]: body for body in httpx.get(f"{url}/asked").json()}
    assert len(asked) == 5
    first = asked[answer_seed(0, "own", "q0", 1)]
    assert first["prompt"] == renderer.tokens([{"role": "user", "content": "Why?"}])
    (said,) = table.filter(question_id="q0", turn=1)["answer"]
    assert asked[answer_seed(0, "own", "q0", 2)]["prompt"] == renderer.tokens(
        [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": said},
            {"role": "user", "content": "And?"},
        ]
    )
    heats = {row["question_id"]: row["temperature"] for row in table.iter_rows(named=True)}
    assert heats == {"q0": 0.0, "q1": 0.7, "q2": 0.1, "q3": 0.0}
    assert {body["temperature"] for body in asked.values()} == {0.0, 0.1, 0.7}
    # A server would take penalties and cut-offs from the checkpoint's generation config.
    assert all(
        (each["top_p"], each["top_k"], each["min_p"], each["repetition_penalty"]) == (1, -1, 0, 1)
        for each in asked.values()
    )
    assert set(first["stop_token_ids"]) >= {renderer.tokenizer.eos_token_id}
    # What does not fit the context that the server tells is not sent.
    assert table.filter(finish_reason="too_long")["question_id"].to_list() == ["q3", "q3"]
    assert set(table.filter(pl.col("answer_tokens") > 0)["answer_tokens"]) == {3}


@pytest.mark.parametrize(
    ("reason", "text", "tokens"),
    [("length", " cut", 4), ("stop", "", 3), ("content_filter", "", 4)],
)
def test_cut_and_empty_answers_are_kept_with_their_reason(job, configure, reason, text, tokens):
    configure(reason=reason, text=text)
    work(job(), Channel())
    table = answers(job()).filter(pl.col("finish_reason") != "too_long")
    assert set(table.select("finish_reason", "answer", "answer_tokens").rows()) == {
        (reason, text.strip(), tokens)
    }


def test_limits_and_faults_that_pass_are_waited_for(job, configure):
    configure(faults=[429, 503, 0, 500, 429])
    assert work(job(), Channel())["generated"] == 7


def test_an_endpoint_that_keeps_failing_ends_the_job_and_the_next_one_goes_on(
    job, configure, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(served, "TRIES", 2)
    configure(faults=[200, 200, *[500] * 50])
    with pytest.raises(
        EndpointError, match=r"HTTP 500: .*told to say 500.*answers so far are kept"
    ):
        work(job(), Channel())
    configure()
    counts = work(job(), Channel())
    # Two were answered, and two turns did not fit.
    assert counts["kept"] >= 3
    assert counts["kept"] + counts["generated"] == 7
    # As a process, that is no error of the user's: a repeat may mend it.
    configure(faults=[500] * 50)
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job(force=True)))
    assert main([str(file)]) == 1


@pytest.mark.parametrize(
    ("place", "settings", "says"),
    [
        (
            {"model": "other"},
            {},
            r"serves no model 'other' \(it serves: d/e\).*--served-model-name",
        ),
        (
            {},
            {"root": "/checkpoints/d/e/0000000000000000"},
            r"serves /checkpoints/.* and not the ch",
        ),
        ({}, {"extra": 1}, r"read \d+ tokens of a prompt of \d+"),
        ({}, {"faults": [400] * 20}, "HTTP 400: .*told to say 400"),
        ({}, {"faults": [401] * 20}, "HTTP 401"),
        ({"api_key_env": "NO_SUCH_KEY"}, {}, "set the environment variable NO_SUCH_KEY"),
        ({"base_url": "{url}"}, {}, "HTTP 404"),
    ],
)
def test_what_a_repeat_cannot_mend_is_one_clear_error(job, url, configure, place, settings, says):
    configure(**settings)
    given = {name: value.format(url=url) for name, value in place.items()}
    with pytest.raises(JobError, match=says):
        work(job(place=given), Channel())


def test_a_server_of_this_very_folder_is_taken_wherever_it_is_mounted(job, configure, checkpoint):
    configure(root=f"/mnt/volume/checkpoints/d/e/{checkpoint.name}")
    assert work(job(), Channel())["generated"] == 7


@pytest.mark.soak
def test_a_real_server_says_what_the_checkpoint_says_here(job, models_dir, embedded_home, tmp_path):
    """llama.cpp serves the embedded model (8-bit weights), whose checkpoint is loaded here."""
    folder = linked(models.embedded_base_model(models_dir), tmp_path)
    server = EmbeddedServer(embedded_home, models.served_gguf(models_dir))
    with server.lease():
        place = {"base_url": f"{server.url()}/v1", "model": EMBEDDED_MODEL, "timeout_s": 60}
        work(job(folder, place, QUESTIONS.head(3)), Channel())
        there = answers(job())
    work({**job(folder, None, QUESTIONS.head(3)), "endpoint": None, "force": True}, Channel())
    here = answers(job())
    same = ["question_id", "turn", "prompt_tokens", "seed", "temperature"]
    first = pl.col("turn") == 1
    assert there.filter(first).select(same).equals(here.filter(first).select(same))
    greedy = (pl.col("question_id") == "q0") & first
    # Weights differ in their last bits, so only the beginning must be equal.
    one, other = there.filter(greedy)["answer"][0], here.filter(greedy)["answer"][0]
    assert one[:20] == other[:20]
