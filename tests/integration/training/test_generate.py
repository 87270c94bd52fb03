"""Answers of a real, tiny checkpoint: one a turn, the same however batched, kept when killed."""

from pathlib import Path

import polars as pl
import pytest

from opencs_assets.answers import generate
from opencs_assets.answers.checks import one_answer_each
from opencs_assets.answers.generate import Model, work
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.benchmarks import read_benchmarks
from opencs_assets.external import Channel, JobError
from opencs_assets.provenance import content_hash, write_marker
from opencs_assets.schemas import BENCHMARK_QUESTIONS, MODEL_ANSWERS

pytestmark = pytest.mark.train
TOKENS = 8


@pytest.fixture(scope="session")
def checkpoint(tiny_model: Path) -> Path:
    """The tiny model as a checkpoint: random weights give long, distinct answers."""
    write_marker(tiny_model, content_hash({"tiny": 1}), {"tiny": 1}, {})
    return tiny_model


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return read_benchmarks(tmp_path_factory.mktemp("home"), {})


@pytest.fixture
def ask(checkpoint: Path, tmp_path: Path):
    """Runs a job; returns its counts and the answers by benchmark."""

    def ask(questions: pl.DataFrame, name: str = "a", *, batch: int = 12, **more):
        provenance = more.pop("provenance", content_hash({"tiny": 1}))
        file = tmp_path / f"{name}.parquet"
        questions.write_parquet(file)
        names = questions["benchmark"].unique(maintain_order=True).to_list()
        outputs = {each: tmp_path / name / f"{each}.parquet" for each in names}
        counts = work(
            {
                "checkpoint": str(checkpoint),
                "provenance": provenance,
                "questions": str(file),
                "outputs": {each: str(path) for each, path in outputs.items()},
                "fields": {
                    each: answer_fields(provenance, questions.filter(benchmark=each), TOKENS, 0)
                    for each in names
                },
                "max_new_tokens": TOKENS,
                "batch_size": batch,
                "seed": 0,
                **more,
            },
            Channel(),
        )
        return counts, pl.concat([pl.read_parquet(path) for path in outputs.values()])

    return ask


def question(name: str, *turns: str, category: str = "math", benchmark: str = "own") -> dict:
    return {
        "benchmark": benchmark,
        "question_id": name,
        "category": category,
        "turns": list(turns),
        "references": [],
    }


def table(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=BENCHMARK_QUESTIONS.schema)


def test_one_answer_a_turn_and_each_turn_sees_the_answers_before_it(ask, questions, checkpoint):
    counts, answers = ask(questions)
    assert counts == {"generated": 24, "kept": 0}
    assert answers.schema == MODEL_ANSWERS.schema
    assert one_answer_each(answers, questions).passed
    assert set(answers.filter(category="writing")["temperature"]) == {0.7}
    assert set(answers.filter(category="math")["temperature"]) == {0.0}
    assert answers["seed"].n_unique() == 24

    model = Model(checkpoint, TOKENS)
    for row in questions.iter_rows(named=True):
        first, second = answers.filter(question_id=row["question_id"]).iter_rows(named=True)
        one = [{"role": "user", "content": row["turns"][0]}]
        two = [
            *one,
            {"role": "assistant", "content": first["answer"]},
            {"role": "user", "content": row["turns"][1]},
        ]
        assert first["prompt_tokens"] == len(model.tokens(one))
        assert second["prompt_tokens"] == len(model.tokens(two))


@pytest.mark.parametrize("batch", [1, 5])
def test_answers_do_not_depend_on_the_batch(ask, questions, batch):
    _, together = ask(questions, "together", batch=12)
    _, other = ask(questions, "other", batch=batch)
    columns = ["question_id", "turn", "answer", "finish_reason", "answer_tokens"]
    assert other.select(columns).equals(together.select(columns))


def test_a_killed_run_goes_on_where_it_stopped(ask, questions, monkeypatch):
    _, whole = ask(questions, "whole", batch=5)
    reply, calls = generate.Model.reply, []

    def dies(self, batch, note):
        calls.append(len(batch))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return reply(self, batch, note)

    monkeypatch.setattr(generate.Model, "reply", dies)
    with pytest.raises(KeyboardInterrupt):
        ask(questions, "killed", batch=5)
    counts, resumed = ask(questions, "killed", batch=5)
    assert counts == {"generated": 12, "kept": 12}
    assert resumed.equals(whole)


def test_finished_answers_are_kept_and_forced_ones_made_again(ask, questions):
    ask(questions)
    assert ask(questions)[0] == {"generated": 0, "kept": 24}
    assert ask(questions, force=True)[0] == {"generated": 24, "kept": 0}


def test_what_does_not_fit_gets_a_row_that_says_so(ask):
    long = "word " * 512
    asked = table(
        question("fits", "Why?", "And?"),
        question("first_too_long", long, "And?"),
        question("second_too_long", "Why?", long),
        question("one_turn", "How?"),
    )
    _, answers = ask(asked)
    assert one_answer_each(answers, asked).passed
    refused = answers.filter(finish_reason="too_long").select("question_id", "turn").rows()
    assert refused == [("first_too_long", 1), ("first_too_long", 2), ("second_too_long", 2)]
    assert set(answers.filter(finish_reason="too_long")["answer"]) == {""}
    assert not answers.filter(question_id="one_turn")["finish_reason"].is_in(["too_long"]).any()


def test_benchmarks_are_answered_and_kept_apart(ask):
    one = table(question("1", "Why?", benchmark="x"))
    both = table(question("1", "Why?", benchmark="x"), question("1", "Why?", benchmark="y"))
    ask(one)
    counts, answers = ask(both)
    assert counts == {"generated": 1, "kept": 1}
    assert answers["benchmark"].to_list() == ["x", "y"]


def test_another_checkpoint_under_the_name_is_refused(ask, questions):
    with pytest.raises(JobError, match=r"is another output.*materialize the checkpoint again"):
        ask(questions, provenance=content_hash({"tiny": 2}))


def test_no_questions_is_refused(ask, questions):
    with pytest.raises((JobError, StopIteration, ValueError), match="no questions"):
        ask(questions.clear())
