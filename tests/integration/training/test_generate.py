"""Answers of a real, tiny checkpoint: one a turn, the same however batched, kept when killed."""

from pathlib import Path

import polars as pl
import pytest

from opencs_assets.answers import local
from opencs_assets.answers.asking import AnswerPrompt, Renderer
from opencs_assets.answers.checks import one_answer_each
from opencs_assets.answers.generate import work
from opencs_assets.answers.local import LocalModel
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.tables.answers import MODEL_ANSWERS
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources.launcher.job import Channel, JobError
from resources.provenance import content_hash, write_marker

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
                    each: answer_fields(
                        provenance,
                        questions.filter(benchmark=each),
                        sampling_of(each),
                        max_new_tokens=TOKENS,
                        seed=0,
                    )
                    for each in names
                },
                "batch_size": batch,
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

    model = Renderer(checkpoint)
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


def test_greedy_answers_are_those_of_plain_generate(checkpoint):
    """Rows that come and go beside each other say what each says alone."""
    import torch
    from transformers import AutoModelForCausalLM

    model = LocalModel(checkpoint, 4)
    prompts = [
        AnswerPrompt(
            {"question_id": str(at), "temperature": 0.0, "seed": at},
            model.tokens([{"role": "user", "content": "word " * (7 * at % 40) + str(at)}]),
        )
        for at in range(9)
    ]
    found = {
        prompt.row["question_id"]: reply
        for some in model.answer(prompts, 24, lambda _: None)
        for prompt, reply in some
    }
    plain = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = Renderer(checkpoint).tokenizer
    assert len(found) == 9
    for prompt in prompts:
        ids = torch.tensor([prompt.ids])
        made = plain.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
        )
        said = made[0, len(prompt.ids) :]
        text = tokenizer.decode(said, skip_special_tokens=True).strip()
        assert found[prompt.row["question_id"]].text == text


def test_a_template_that_refuses_is_told(ask, checkpoint, tmp_path, monkeypatch):
    refuses = "{{ raise_exception('only about the weather') }}"
    monkeypatch.setattr(
        "transformers.PreTrainedTokenizerBase.get_chat_template", lambda *a, **k: refuses
    )
    with pytest.raises(JobError, match="template can't be used: only about the weather"):
        ask(table(question("1", "Why?")))


@pytest.mark.parametrize("batch", [1, 5])
def test_answers_do_not_depend_on_the_batch(ask, questions, batch):
    _, together = ask(questions, "together", batch=12)
    _, other = ask(questions, "other", batch=batch)
    columns = ["question_id", "turn", "answer", "finish_reason", "answer_tokens"]
    assert other.select(columns).equals(together.select(columns))


def test_a_killed_run_goes_on_where_it_stopped(ask, questions, monkeypatch):
    _, whole = ask(questions, "whole", batch=5)
    answer = local.LocalModel.answer

    def dies(self, prompts, max_new_tokens, note):
        for count, some in enumerate(answer(self, prompts, max_new_tokens, note)):
            if count == 1:
                raise KeyboardInterrupt
            yield some

    monkeypatch.setattr(local.LocalModel, "answer", dies)
    with pytest.raises(KeyboardInterrupt):
        ask(questions, "killed", batch=5)
    monkeypatch.undo()
    counts, resumed = ask(questions, "killed", batch=5)
    assert counts["generated"] + counts["kept"] == 24
    assert 0 < counts["kept"] < 24
    assert resumed.equals(whole)


def test_finished_answers_are_kept_and_forced_ones_made_again(ask, questions):
    ask(questions)
    assert ask(questions)[0] == {"generated": 0, "kept": 24}
    assert ask(questions, force=True)[0] == {"generated": 24, "kept": 0}


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
