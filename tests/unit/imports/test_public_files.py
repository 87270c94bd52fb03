"""Published files give their published numbers, whatever order they are imported in."""

import json
import random

import polars as pl
import pytest

SINGLE = {
    "llama2-13b-alpaca_tips_WHAT_1k_sharegpt-e15lr1e-05": (1, 6.3537, 4.5848, 5.4748),
    "llama2-13b-cluster_pair_score_myprompt_sharegpt-e15lr1e-05": (0, 6.0213, 4.9162, 5.4688),
    "mistral-7b-cluster_pair_score_myprompt_sharegpt-e15lr1e-05": (1, 2.3125, 2.2025, 2.2579),
}


@pytest.fixture
def judgments(shared_data):
    return shared_data / "judgments"


@pytest.mark.parametrize("model", SINGLE)
def test_single_judgments_of_mt_bench(published_desk, judgments, model):
    published_desk.take(judgments / "mt_bench_single" / f"{model}_single.jsonl")
    found = published_desk.read()
    verdicts = found.verdicts
    unparsable, first, second, overall = SINGLE[model]
    assert verdicts.height == 160
    assert found.rejected.is_empty()
    assert set(verdicts["model_a"]) == {model}
    assert set(verdicts["prompt_version"]) == {"fastchat-single-v1"}
    assert verdicts["prompt"].n_unique() == 4
    assert verdicts.filter(status="unparsable").height == unparsable
    assert verdicts.filter(status="unparsable")["score_a"].null_count() == unparsable
    means = {turn: verdicts.filter(turn=turn)["score_a"].mean() for turn in (1, 2)}
    assert round(means[1], 4) == first
    assert round(means[2], 4) == second
    assert round(verdicts["score_a"].mean(), 4) == overall
    assert dict(verdicts["category"].value_counts().iter_rows()) == dict.fromkeys(
        verdicts["category"].unique(), 20
    )


def test_pair_judgments_by_fastchats_rule(published_desk, judgments):
    (file,) = (judgments / "mt_bench_pair").glob("*.jsonl")
    published_desk.take(file)
    verdicts = published_desk.read().verdicts
    assert verdicts.height == 320
    assert set(verdicts["prompt_version"]) == {"fastchat-pair-v2"}
    orders = verdicts.pivot("shown_first", index=["question_id", "turn"], values="winner")
    assert orders.height == 160
    agreed = orders.filter(pl.col("a") == pl.col("b"))
    wins = dict(agreed["a"].value_counts().iter_rows())
    assert (wins["a"], wins["b"]) == (25, 50)
    assert orders.height - wins["a"] - wins["b"] == 85
    assert round(100 * (1 - agreed.height / orders.height), 2) == 26.25


def test_human_votes_are_all_kept_and_gpt_4_agrees_with_them_as_published(
    published_desk, judgments
):
    for name in ("human", "gpt4_pair"):
        published_desk.take(judgments / "human" / f"{name}.jsonl")
    found = published_desk.read()
    people, judge = (found.verdicts.filter(is_human=human) for human in (True, False))
    assert (people.height, judge.height) == (3355, 2400)
    assert set(found.verdicts["state"]) == {"used"}
    assert set(people["judge_group"]) == {"expert", "author"}
    assert set(people["shown_first"]) == {"unknown"}
    assert judge["orders_disagree"].sum() == 380
    assert set(judge.filter("orders_disagree")["winner"]) == {"tie"}
    assert set(judge["shown_first"]) == {"merged"}
    # FastChat counts the experts' votes, and the authors' apart.
    decided = found.verdicts.filter(pl.col("winner") != "tie")
    both = decided.filter(judge_group="expert").join(
        decided.filter(is_human=False),
        on=["benchmark", "question_id", "turn", "model_a", "model_b"],
    )
    assert both.height == 1723
    assert round(100 * (both["winner"] == both["winner_right"]).mean(), 1) == 84.6


def test_reviews_whose_reversed_scores_stand_as_shown(published_desk, judgments):
    file = judgments / "score_pair" / "vicuna_wrap_reviews_gpt4.json"
    published_desk.take(file, model_a="a-cherry", model_b="b-alpaca", judge="gpt-4")
    found = published_desk.read()
    assert found.rejected.is_empty()
    assert found.verdicts.height == 160
    assert set(found.verdicts["benchmark"]) == {"vicuna"}
    means = {
        first: found.verdicts.filter(shown_first=first).select("score_a", "score_b").mean().row(0)
        for first in ("a", "b")
    }
    assert means["a"] == (7.725, 7.6375)
    # 7.5 is what the answer shown first got, which is model b's.
    assert means["b"] == (8.10625, 7.5)
    assert found.answers.height == 160


def test_reviews_swapped_back_already_are_the_same_verdicts(published_desk, judgments):
    file = judgments / "score_pair" / "vicuna_wrap_reviews_gpt4.json"
    document = json.loads(file.read_text())
    for row in document["data"]:
        row["scores_reverse"] = json.dumps(json.loads(row["scores_reverse"])[::-1])
    models = {"model_a": "a-cherry", "model_b": "b-alpaca", "judge": "gpt-4"}
    published_desk.take(file, **models)
    published_desk.take(published_desk.write("swapped.json", json.dumps(document)), **models)
    states = published_desk.read().verdicts["state"].value_counts()
    assert dict(states.iter_rows()) == {"used": 160, "duplicate": 160}


def test_answers_of_six_models(published_desk, shared_data):
    for file in (shared_data / "model_answers" / "mt_bench").glob("*.jsonl"):
        published_desk.take(file)
    found = published_desk.read()
    assert found.rejected.is_empty()
    assert found.answers["model"].n_unique() == 6
    assert found.answers.height == sum(
        len(json.loads(line)["choices"][0]["turns"])
        for file in (shared_data / "model_answers" / "mt_bench").glob("*.jsonl")
        for line in file.read_text().splitlines()
    )


def test_two_copies_of_one_file_that_differ_in_41_ratings(published_desk, judgments):
    file = sorted((judgments / "mt_bench_single").glob("*.jsonl"))[0]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in random.Random(0).sample([row for row in rows if row["score"] > 1], 41):
        row["score"] -= 1
    published_desk.take(file)
    published_desk.take(published_desk.write("copy.jsonl", rows))
    verdicts = published_desk.read().verdicts
    assert verdicts.height == 320
    counts = verdicts.group_by("file_name", "state").len().sort("file_name", "state")
    assert list(counts.select("state", "len").iter_rows()) == [
        ("conflict", 41),
        ("duplicate", 119),
        ("conflict", 41),
        ("used", 119),
    ]
