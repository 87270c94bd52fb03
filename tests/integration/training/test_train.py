"""The training script on a real, tiny model: published defects, bad input, killed processes."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.answers.asking import AnswerPrompt
from opencs_assets.answers.local import LocalModel
from opencs_assets.checkpoints.checks import (
    files_intact,
    template_of_training,
    whole_subset_same_steps,
)
from opencs_assets.checkpoints.encoding import conversation, encode
from opencs_assets.checkpoints.job import checkpoint_row
from opencs_assets.checkpoints.place import WORK
from opencs_assets.checkpoints.provenance import PACKAGES, subset_hash
from opencs_assets.checkpoints.templates import chat_template
from opencs_assets.checkpoints.train import work
from opencs_assets.config.experiments import Experiment
from opencs_assets.config.recipes import Recipe
from resources.launcher.job import EXIT_JOB_ERROR, Channel, JobError
from resources.provenance import MARKER, file_hash, read_marker
from resources.settings import TrainingSettings

pytestmark = pytest.mark.train
# The real interpreter, which starts cold.
TRAIN = [sys.executable, "-m", "opencs_assets.checkpoints.train"]
EXPERIMENT = Experiment(selector="s", base_model="b", recipe="r")
UNUSABLE = ("word " * 200, "A prompt that fills the limit alone.")


def lengths(samples: pl.DataFrame, model: Path, limit: int) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        len(encode(tokenizer, conversation(row["system"], row["messages"]), limit).input_ids)
        for row in samples.iter_rows(named=True)
    ]


def test_a_whole_training_by_hand(make_job, samples, tiny_model, tmp_path, fast, start):
    job, content = make_job()
    file = tmp_path / "job.json"
    file.write_text(json.dumps(content))
    done = subprocess.run([*TRAIN, str(file)], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    row = checkpoint_row(job, EXPERIMENT, result)

    assert files_intact(row).passed
    assert template_of_training(row).passed
    assert whole_subset_same_steps(row, samples).passed
    assert result["samples"] == samples.height
    assert result["truncated_samples"] == 1
    # 10 samples, 2 x 2 a step: 3 steps an epoch.
    assert result["steps"] == 6
    assert result["epochs"] == 2
    # Every token of every sample twice, cut at the limit: no split, and the limit has an effect.
    assert result["tokens"] == 2 * sum(lengths(samples, tiny_model, fast.max_length))
    assert max(lengths(samples, tiny_model, 10_000)) > fast.max_length
    assert [entry["step"] for entry in result["log"]] == list(range(1, 7))
    assert result["final_loss"] < result["first_loss"]
    assert chat_template(Path(job.output)).encode() == chat_template(tiny_model).encode()
    # In which two experiments are equal, and what the checkpoint is made from, stand in its row.
    told = row.row(0, named=True)
    assert (told["epochs"], told["steps"], told["tokens"]) == (2.0, 6, result["tokens"])
    assert Recipe.model_validate_json(told["recipe"]) == job.recipe
    assert (told["selector"], told["base_model"], told["path"]) == ("s", "b", job.output)
    assert told["subset_hash"] == subset_hash(samples)
    assert {each["name"] for each in told["packages"]} == set(PACKAGES)
    assert "absent" not in {each["version"] for each in told["packages"]}
    assert (told["device"], told["devices"], told["gpu_hours"]) == ("cpu", 1, 0.0)
    assert (told["mfu"], told["cost_usd"], told["resumed_from_step"]) == (None, None, None)
    assert told["tokens_per_second"] == pytest.approx(told["tokens"] / told["train_seconds"])
    fields = read_marker(Path(job.output)).fields
    assert fields.keys() == {"subset", "rows", "base_model", "recipe", "template", "code"}
    assert fields["rows"] == samples.height
    assert fields["base_model"]["model.safetensors"] == file_hash(tiny_model / "model.safetensors")
    assert fields["recipe"]["steps"] == 6
    assert not {"max_new_tokens", "generation_batch_size"} & fields["recipe"].keys()
    assert [path.name for path in Path(job.output).parent.iterdir() if path.is_dir()] == [
        Path(job.output).name
    ]
    assert "training" in done.stderr
    assert "6/6 steps" in done.stderr
    assert len(done.stderr.splitlines()) < 20

    # A process that is forked from one with its libraries does the very same.
    twin, content = make_job(where="d/forked")
    forked = start(content).result()
    exact = ("loss", "learning_rate", "grad_norm", "tokens")
    assert [[row[name] for name in exact] for row in forked["log"]] == [
        [row[name] for name in exact] for row in result["log"]
    ]
    weights = [file_hash(Path(each.output) / "model.safetensors") for each in (job, twin)]
    assert weights[0] == weights[1]


@pytest.mark.soak
def test_the_same_seed_gives_the_same_weights(make_job):
    one, first = make_job(where="d/one")
    two, second = make_job(where="d/two")
    other, third = make_job(where="d/other", seed=1)
    for content in (first, second, third):
        work(content, Channel())
    weights = [file_hash(Path(job.output) / "model.safetensors") for job in (one, two, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.soak
def test_arms_of_one_size_take_the_same_steps(make_job, samples, samples_of):
    _, whole = make_job(samples.head(9), where="d/a")
    with_unusable = samples_of([("Hi", "Hello."), UNUSABLE] * 4 + [UNUSABLE])
    _, partly = make_job(with_unusable, where="d/b")
    first, second = work(whole, Channel()), work(partly, Channel())
    assert first["steps"] == second["steps"] == 6
    assert (second["samples"], second["dropped_samples"]) == (4, 5)
    assert second["dropped_ids"] == ["s1", "s3", "s5", "s7", "s8"]


def test_the_model_learns_the_response_and_to_stop(make_job, tiny_model, samples_of):
    rows = samples_of([("Which animal?", "A small grey cat.")] * 4)
    job, content = make_job(rows, steps=60, learning_rate=5e-3, neftune_alpha=0)
    work(content, Channel())
    model = LocalModel(Path(job.output), 32)
    ids = model.tokens([{"role": "user", "content": "Which animal?"}])
    asked = AnswerPrompt({"question_id": "1", "temperature": 0.0, "seed": 0}, ids)
    ((_, reply),) = next(iter(model.answer([asked], 12, lambda _: None)))
    assert (reply.text, reply.finish_reason) == ("A small grey cat.", "stop")


def test_reused_where_whole_and_trained_again_where_not(make_job):
    job, content = make_job()
    assert not work(content, Channel())["reused"]
    made = (Path(job.output) / MARKER).stat().st_mtime_ns
    again = work(content, Channel())
    assert again["reused"]
    assert again["steps"] == 6
    assert (Path(job.output) / MARKER).stat().st_mtime_ns == made

    weights = Path(job.output) / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-8] + b"harmed!!")
    assert job.stored() is None
    assert not work(content, Channel())["reused"]
    assert weights.read_bytes() == good

    assert not work({**content, "force": True}, Channel())["reused"]
    assert job.stored() is not None


def test_a_checkpoint_is_never_named_after_other_inputs(make_job, samples):
    job, content = make_job()
    _, other = make_job(samples.reverse())
    with pytest.raises(JobError, match="made from other inputs: subset differ"):
        work({**content, "samples": other["samples"]}, Channel())
    with pytest.raises(JobError, match="recipe differ"):
        work({**content, "recipe": {**content["recipe"], "seed": 9}}, Channel())
    assert not Path(job.output).exists()


def test_an_empty_subset_is_refused_before_any_work(make_job, samples, tmp_path):
    job, content = make_job(samples.clear())
    file = tmp_path / "job.json"
    file.write_text(json.dumps(content))
    done = subprocess.run([*TRAIN, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_JOB_ERROR
    assert done.stderr.strip().endswith("is empty; materialize its selector first")
    assert "Traceback" not in done.stderr
    assert not Path(job.output).parent.exists()


def test_a_loss_that_is_no_number_stops_and_says_where(make_job):
    job, content = make_job(settings=TrainingSettings(save_every_steps=1), learning_rate=1e30)
    with pytest.raises(
        JobError, match=r"(loss|grad_norm) is (nan|inf) at step \d of 6; lower"
    ) as raised:
        work(content, Channel())
    assert not Path(job.output).exists()
    # The last state before it is kept for whoever wants to see what happened.
    assert "The state of step" in str(raised.value)


def test_a_short_training_keeps_no_states_that_nobody_asked_for(make_job):
    # A state has three times the size of the weights, and this is trained again within seconds.
    job, content = make_job(where="short", learning_rate=1e30)
    with pytest.raises(JobError, match=r"grad_norm|loss") as raised:
        work(content, Channel())
    assert "state" not in str(raised.value)
    assert not list(Path(job.output).parent.glob(f"{WORK}*"))


def test_the_second_of_two_waits_and_reuses(make_job, start):
    job, content = make_job()
    results = [each.result() for each in (start(content), start(content))]
    assert sorted(result["reused"] for result in results) == [False, True]
    assert read_marker(Path(job.output)).provenance == job.provenance
