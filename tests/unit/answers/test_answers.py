"""Sampling, provenance, rows on disk and checks of answers."""

from collections import Counter

import polars as pl
import pytest

from opencs_assets.answers.checks import (
    few_empty,
    few_failed,
    of_one_checkpoint,
    one_answer_each,
)
from opencs_assets.answers.decoding import Sampler
from opencs_assets.answers.generate import answer_seed
from opencs_assets.answers.outside import questions_of
from opencs_assets.answers.plots import answer_lengths
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.answers.store import (
    expected_keys,
    read_answers,
    write_answers,
)
from opencs_assets.config.benchmarks import BY_CATEGORY, TEST_SET, BenchmarkSampling
from opencs_assets.tables.answers import MODEL_ANSWERS
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS

QUESTIONS = pl.DataFrame(
    [
        {
            "benchmark": "b",
            "question_id": name,
            "category": "math",
            "turns": turns,
            "references": [],
        }
        for name, turns in (("q2", ["1", "2"]), ("q1", ["1"]))
    ],
    schema=BENCHMARK_QUESTIONS.schema,
)


def rows(provenance: str = "p") -> list[dict]:
    return [
        {
            "benchmark": key[0],
            "question_id": key[1],
            "category": "math",
            "turn": key[2],
            "answer": "four",
            "finish_reason": "stop",
            "prompt_tokens": 10,
            "answer_tokens": 1,
            "temperature": 0.0,
            "seed": 1,
            "provenance": provenance,
            "checkpoint": "c",
        }
        for key in expected_keys(QUESTIONS)
    ]


ANSWERS = pl.DataFrame(rows(), schema=MODEL_ANSWERS.schema)


def test_every_answer_has_a_seed_of_its_own():
    seeds = {answer_seed(s, b, q, t) for s in (0, 1) for b in "xy" for q in "12" for t in (1, 2)}
    assert len(seeds) == 16
    assert answer_seed(0, "x", "1", 1) == answer_seed(0, "x", "1", 1) < 2**31


def fields(checkpoint="c", questions=QUESTIONS, sampling=BY_CATEGORY, tokens=96, seed=0, **more):
    return answer_fields(checkpoint, questions, sampling, max_new_tokens=tokens, seed=seed, **more)


def test_what_the_model_does_not_see_does_not_change_the_answers():
    known = QUESTIONS.with_columns(references=pl.col("turns"))
    assert fields(questions=known) == fields()
    for other in (
        fields("d"),
        fields(tokens=97),
        fields(seed=1),
        fields(questions=QUESTIONS.reverse()),
        fields(sampling=TEST_SET),
        fields(served_as="d/e"),
    ):
        assert other != fields()


def test_length_and_temperature_are_the_benchmarks_unless_the_recipe_says_otherwise():
    assert fields(tokens=None)["max_new_tokens"] == 512
    assert (
        fields(tokens=None, sampling=BenchmarkSampling(max_new_tokens=64))["max_new_tokens"] == 64
    )
    assert fields(tokens=7)["max_new_tokens"] == 7
    assert fields()["temperatures"] == {"math": 0.0}
    assert fields(sampling=TEST_SET)["temperatures"] == {"math": 0.7}


def test_a_finished_table_is_read_back(tmp_path):
    path = tmp_path / "b.parquet"
    write_answers(path, rows())
    found = read_answers(path, QUESTIONS, "p")
    assert found is not None
    assert found.equals(ANSWERS)


def test_a_table_that_is_not_whole_is_not_reused(tmp_path):
    path = tmp_path / "b.parquet"
    assert read_answers(path, QUESTIONS, "p") is None
    write_answers(path, rows()[:-1])
    assert read_answers(path, QUESTIONS, "p") is None
    write_answers(path, rows())
    assert read_answers(path, QUESTIONS, "other") is None
    path.write_bytes(path.read_bytes()[:100])
    assert read_answers(path, QUESTIONS, "p") is None


def test_a_missing_a_repeated_and_an_unknown_answer_are_found():
    assert one_answer_each(ANSWERS, QUESTIONS).passed
    missing = one_answer_each(ANSWERS.head(2), QUESTIONS)
    assert not missing.passed
    assert "first missing ('b', 'q1', 1)" in missing.description
    assert not one_answer_each(pl.concat([ANSWERS, ANSWERS.head(1)]), QUESTIONS).passed
    assert not one_answer_each(ANSWERS, QUESTIONS.head(1)).passed


def test_only_the_named_benchmarks_are_asked_for():
    both = pl.concat([QUESTIONS, QUESTIONS.with_columns(benchmark=pl.lit("other"))])
    assert questions_of(both, None).equals(both)
    assert questions_of(both, ("b",)).equals(QUESTIONS)
    assert one_answer_each(ANSWERS, questions_of(both, ("b",))).passed
    assert not one_answer_each(ANSWERS, questions_of(both, None)).passed


def test_answers_of_another_checkpoint_are_found():
    assert of_one_checkpoint(ANSWERS, pl.DataFrame({"provenance": ["c"]})).passed
    assert not of_one_checkpoint(ANSWERS, pl.DataFrame({"provenance": ["d"]})).passed


def test_a_model_that_says_nothing_is_told():
    assert few_empty(ANSWERS).passed
    assert not few_empty(ANSWERS.with_columns(answer=pl.lit(" "))).passed
    assert not few_empty(ANSWERS.with_columns(finish_reason=pl.lit("too_long"))).passed
    # Half of them may be empty; what was not asked counts on neither side.
    for answers, passed in ((["", "x"], True), (["", "", "x"], False), (["", "x", "x"], True)):
        table = ANSWERS.head(len(answers)).with_columns(answer=pl.Series(answers))
        assert few_empty(table).passed is passed
        unasked = ANSWERS.head(2).with_columns(answer=pl.lit(""), finish_reason=pl.lit("too_long"))
        found = few_empty(pl.concat([table, unasked]))
        assert found.passed is passed
        assert found.metadata == {"empty": answers.count(""), "too_long": 2}


@pytest.mark.parametrize("reason", ["too_long", "refused", "failed", "garbled"])
def test_a_turn_without_an_answer_is_told_with_the_first_reason(reason):
    answers = ANSWERS.with_columns(detail=pl.Series(["a", "b", "c"]))
    assert few_failed(answers).passed
    some = answers.with_columns(finish_reason=pl.Series(["stop", reason, reason]))
    found = few_failed(some)
    assert not found.passed
    assert found.description == "2 of 3 turns have no answer; the first: b"
    assert found.metadata == {"by_reason": {reason: 2}}


def test_lengths_are_drawn_of_many_and_of_no_answers():
    assert answer_lengths(ANSWERS).axes[0].get_ylabel() == "tokens, mean"
    assert answer_lengths(ANSWERS.clear()).axes


@pytest.mark.parametrize("heat", [0.1, 0.7, 1.0])
def test_noise_makes_the_greedy_choice_a_sample_at_the_temperature(heat):
    import torch

    logits = torch.tensor([[1.0, 0.5, 0.0, -1.0]])
    draws = 20_000
    sampler = Sampler([heat], [3])
    counts = Counter(int(sampler([0], logits.clone())) for _ in range(draws))
    for token, expected in enumerate(torch.softmax(logits[0] / heat, 0).tolist()):
        assert counts[token] / draws == pytest.approx(expected, abs=0.015)


def test_what_a_row_draws_does_not_depend_on_its_place_or_its_neighbours():
    import torch

    logits = torch.zeros(4, 50)
    mixed = Sampler([0.0, 0.7, 0.0], [1, 2, 3])
    together = [mixed([0, None, 1, 2], logits.clone()).tolist() for _ in range(20)]
    alone = Sampler([0.7], [2])
    expected = [int(alone([0], logits[:1].clone())) for _ in range(20)]
    assert [row[2] for row in together] == expected
    assert len(set(expected)) > 5
    assert {row[at] for row in together for at in (0, 1, 3)} == {0}
