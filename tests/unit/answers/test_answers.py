"""Sampling, provenance, rows on disk and checks of answers."""

import json
from collections import Counter

import polars as pl
import pytest

from opencs_assets.answers.checks import few_empty, of_one_checkpoint, one_answer_each
from opencs_assets.answers.generate import _sampler
from opencs_assets.answers.plots import answer_lengths
from opencs_assets.answers.provenance import answer_fields
from opencs_assets.answers.sampling import answer_seed, temperature
from opencs_assets.answers.store import (
    PartialAnswers,
    expected_keys,
    read_answers,
    write_answers,
)
from opencs_assets.schemas import BENCHMARK_QUESTIONS, MODEL_ANSWERS

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


def test_temperatures_are_mt_benchs():
    assert [temperature(name) for name in ("writing", "math", "stem", "generic")] == [
        0.7,
        0,
        0.1,
        0.7,
    ]


def test_every_answer_has_a_seed_of_its_own():
    seeds = {answer_seed(s, b, q, t) for s in (0, 1) for b in "xy" for q in "12" for t in (1, 2)}
    assert len(seeds) == 16
    assert answer_seed(0, "x", "1", 1) == answer_seed(0, "x", "1", 1) < 2**31


def test_what_the_model_does_not_see_does_not_change_the_answers():
    fields = answer_fields("c", QUESTIONS, 96, 0)
    known = QUESTIONS.with_columns(references=pl.col("turns"))
    assert answer_fields("c", known, 96, 0) == fields
    assert answer_fields("d", QUESTIONS, 96, 0) != fields
    assert answer_fields("c", QUESTIONS, 97, 0) != fields
    assert answer_fields("c", QUESTIONS, 96, 1) != fields
    assert answer_fields("c", QUESTIONS.reverse(), 96, 0) != fields


def test_rows_outlive_a_process_that_was_killed_while_writing(tmp_path):
    partial = PartialAnswers(tmp_path / "x.jsonl")
    assert partial.read() == {}
    first, second, third = rows()
    partial.append([first])
    with partial.path.open("a") as file:
        file.write("\n" + json.dumps(second)[:40])
    partial.append([third])
    assert list(partial.read().values()) == [first, third]


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


def test_answers_of_another_checkpoint_are_found():
    assert of_one_checkpoint(ANSWERS, pl.DataFrame({"provenance": ["c"]})).passed
    assert not of_one_checkpoint(ANSWERS, pl.DataFrame({"provenance": ["d"]})).passed


def test_a_model_that_says_nothing_is_told():
    assert few_empty(ANSWERS).passed
    assert not few_empty(ANSWERS.with_columns(answer=pl.lit(" "))).passed
    assert not few_empty(ANSWERS.with_columns(finish_reason=pl.lit("too_long"))).passed


def test_lengths_are_drawn_of_many_and_of_no_answers():
    assert answer_lengths(ANSWERS).axes[0].get_ylabel() == "tokens, mean"
    assert answer_lengths(ANSWERS.clear()).axes


@pytest.mark.parametrize("heat", [0.1, 0.7, 1.0])
def test_noise_makes_the_greedy_choice_a_sample_at_the_temperature(heat):
    import torch

    logits = torch.tensor([1.0, 0.5, 0.0, -1.0])
    draws = 20_000
    sampler = _sampler([heat], [3], lambda _: None)
    counts = Counter(int(sampler(None, logits.repeat(1, 1)).argmax()) for _ in range(draws))
    for token, expected in enumerate(torch.softmax(logits / heat, 0).tolist()):
        assert counts[token] / draws == pytest.approx(expected, abs=0.015)


def test_greedy_rows_are_left_as_they_are_beside_sampled_ones():
    import torch

    logits = torch.randn(3, 50)
    out = _sampler([0.0, 0.7, 0.0], [1, 2, 3], lambda _: None)(None, logits)
    assert torch.equal(out[[0, 2]], logits[[0, 2]])
    alone = _sampler([0.7], [2], lambda _: None)(None, logits[1:2])
    assert torch.equal(out[1:2], alone)
