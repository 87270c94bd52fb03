"""Results of all kinds in one lake: older files, early stops, outside models, votes, and traces."""

from pathlib import Path

import polars as pl
import pytest

from opencs_assets.statistics.sequential import interval
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from resources.warehouse import Warehouse
from tests.integration.warehouse.conftest import (
    build_in,
    imported,
    pair_rows,
    questions,
    replies,
    table,
    write_models,
)
from tests.oracle import marts as oracle

NAMES = [f"q{place:02}" for place in range(20)]
NEW = ("turn", "protocol", "sampling")


def write_old(lake: Lake, name: str, frame: pl.DataFrame, partition: dict[str, str]) -> None:
    """A file as 0.1.0 wrote it."""
    path = Path(lake.path(TABLES[name], partition))
    path.parent.mkdir(parents=True)
    new = NEW if name == "pairwise_verdicts" else NEW[1:]
    frame.drop(new).write_parquet(path)


def both(winner: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(NAMES, winner)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    home = tmp_path_factory.mktemp("results")
    lake = Lake(str(home / "lake"))
    asked = questions("bench", NAMES)
    hard = questions("hard", NAMES).with_columns(
        difficulty=pl.Series([place / 10 - 1 for place in range(len(NAMES))])
    )
    lake.write("benchmark_questions", pl.concat([asked, hard]), {})
    models = {"one": {}, "two": {}, "three": {}}
    for dataset in ("now", "old", "early"):
        write_models(lake, dataset, asked, models)
    write_models(lake, "now", asked, {"solo": {}})
    write_models(lake, "hard", hard, models)
    of_hard = {name: ("a", "a") if place % 3 else ("b", "b") for place, name in enumerate(NAMES)}
    lake.write(
        "pairwise_verdicts",
        pair_rows(of_hard, benchmark="hard"),
        {"dataset": "hard", "matchup": "m"},
    )
    of_old = {"dataset": "old", "matchup": "m"}
    write_old(lake, "pairwise_verdicts", pair_rows(both(("a", "b")), benchmark="bench"), of_old)
    logprobs = pair_rows(both(("a", "a")), benchmark="bench", reading="logprobs")
    write_old(lake, "pairwise_verdicts", logprobs, {"dataset": "old", "matchup": "n"})
    singles = table(
        "single_verdicts",
        [{"question_id": name, "turn": turn, "score": 5.0} for name in NAMES for turn in (1, 2)],
        benchmark="bench", judge="gpt", status="ok",
    )  # fmt: skip
    write_old(lake, "single_verdicts", singles, {"dataset": "old", "experiment": "one"})
    stopped(lake)
    outside(lake)
    votes(lake)
    traced(lake)
    lake.write(
        "declared_models",
        table("declared_models", [{"model": "gpt-x", "is_outside": True}, {"model": "one"}]),
        {},
    )
    matchups = [
        {"matchup": name, "model_a": "one", "model_b": "two", "parity": "epochs"}
        for name in ("m", "n", "vs_outside")
    ]
    lake.write("declared_matchups", table("declared_matchups", matchups), {})
    return build_in(home)


def test_lengths_are_controlled_with_difficulties_where_the_benchmark_has_them(
    warehouse: Warehouse,
):
    found = warehouse.query(
        "select distinct benchmark, lc_method from length_bias order by benchmark"
    )
    assert found.rows() == [("bench", "lc_no_difficulty"), ("hard", "lc_alpaca_eval2")]
    (row,) = warehouse.query("from length_bias where benchmark = 'hard'").to_dicts()
    assert row["lc_questions"] == len(NAMES)
    assert 50 < row["lc_win_pct"] < 80


def stopped(lake: Lake) -> None:
    """Eight questions won, and the others not asked any more."""
    frame = pair_rows(both(("a", "a")), benchmark="bench").with_columns(
        pl.when(pl.col("question_id") > "q07").then(None).otherwise(name).alias(name)
        for name in ("winner", "score_a", "score_b")
    )
    left = pl.when(pl.col("winner").is_null()).then(pl.lit("stopped")).otherwise("status")
    frame = frame.with_columns(status=left)
    lake.write("pairwise_verdicts", frame, {"dataset": "early", "matchup": "m"})


def outside(lake: Lake) -> None:
    frame = pair_rows(both(("a", "tie")), benchmark="bench", model_b="gpt-x")
    lake.write("pairwise_verdicts", frame, {"dataset": "now", "matchup": "vs_outside"})
    answers = [
        {"benchmark": "bench", "question_id": name, "turn": turn, "answer": "so", "detail": None}
        for name in NAMES
        for turn in (1, 2)
    ]
    made = table("outside_answers", answers, finish_reason="stop", model="gpt-x")
    lake.write("outside_answers", made, {"outside_model": "gpt-x"})


def votes(lake: Lake) -> None:
    """A matchup by turn, and what people say of it, in another order of the models."""
    choice = pl.concat(
        pair_rows(
            {name: ("a", "a") if place % 2 else ("b", "b") for place, name in enumerate(NAMES)},
            benchmark="bench", protocol="choice", turn=turn, model_a="solo", model_b="three",
        )
        for turn in (1, 2)
    ).with_columns(score_a=None, score_b=None)  # fmt: skip
    choice = choice.with_columns(pl.col("score_a", "score_b").cast(pl.Float64))
    lake.write("pairwise_verdicts", choice, {"dataset": "now", "matchup": "m"})
    # `one` is a model of three datasets, so nothing tells which of them `one` of a file is.
    rows = [
        {"question_id": name, "turn": 1, "model_a": model_a, "model_b": model_b, "winner": "b"}
        for name in NAMES
        for model_a, model_b in (("three", "solo"), ("two", "one"))
    ]
    of_people = {"kind": "pair", "protocol": "choice", "is_human": True}
    lake.write("imported_verdicts", imported(rows, benchmark="bench", judge="expert", **of_people),
               {})  # fmt: skip


def traced(lake: Lake) -> None:
    samples = [{"sample_id": f"s{place}", "rank": place} for place in range(3)]
    of_one = {"dataset": "now", "selector": "one"}
    lake.write("selected_subset", table("selected_subset", samples), of_one)
    tags = [{"sample_id": "s0", "tags": ["math", "sums"]}, {"sample_id": "s1", "tags": ["math"]}]
    lake.write("normalized_tags", table("normalized_tags", tags), {"dataset": "now"})
    reply = {"reply_id": "r1", "model": "gpt", "cost_usd": 0.25, "stage": "pairwise_verdicts"}
    plain = {"status": "ok", "readable": True, "via": "call", "cached_tokens": 0}
    lake.write("llm_replies", replies([{**plain, **reply}]), {})
    frame = pair_rows(both(("b", "b")), benchmark="bench", reply_id="r1")
    lake.write("pairwise_verdicts", frame, {"dataset": "now", "matchup": "n"})


def only(warehouse: Warehouse, sql: str) -> dict:
    (row,) = warehouse.query(sql).to_dicts()
    return row


def test_files_of_an_older_release_say_what_they_can(warehouse: Warehouse):
    rates = warehouse.query(
        "from win_rates where dataset = 'old' and is_default_rule order by matchup"
    ).to_dicts()
    assert [(row["protocol"], row["rule"], row["sampling"]) for row in rates] == [
        ("scores", "win_or_tie", ""),
        ("preference", "sum_of_scores", ""),
    ]
    assert [(row["judged"], row["expected"], row["complete"]) for row in rates] == [
        (20, 20, True)
    ] * 2
    score = only(warehouse, "from answer_scores where dataset = 'old'")
    assert (score["protocol"], score["score"], score["judged"]) == ("single", 5.0, 40)
    assert (score["ci_low"], score["ci_high"]) == (5.0, 5.0)


def test_what_was_stopped_early_is_complete_and_has_its_own_interval(warehouse: Warehouse):
    row = only(warehouse, "from win_rates where dataset = 'early' and is_default_rule")
    assert (row["win"], row["judged"], row["stopped"], row["expected"]) == (8, 8, 12, 20)
    assert (row["complete"], row["unparsable"], row["adjusted_win_pct"]) == (True, 0, 100.0)
    low, high = interval(1.0, 8)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high))
    gate = warehouse.query(
        "select rule from publication_gate where dataset = 'early' and passed is not true"
    )
    assert gate.is_empty()


def test_of_an_outside_model_the_training_cant_be_told(warehouse: Warehouse):
    row = only(warehouse, "from win_rates where matchup = 'vs_outside' and is_default_rule")
    assert row["unchecked"] == ["parity"]
    assert (row["epochs_a"], row["epochs_b"], row["template_b"]) == (0.0, None, None)
    reason = only(
        warehouse,
        "select reason from publication_gate where rule = 'parity' and subject = 'vs_outside'",
    )["reason"]
    assert reason == "gpt-x is not trained here"
    bias = only(warehouse, "from length_bias where matchup = 'vs_outside'")
    assert (bias["questions"], bias["decided"], bias["longer_win_pct"]) == (20, 20, 100.0)


def test_one_order_that_wins_and_one_that_ties_favour_a_place(warehouse: Warehouse):
    bias = only(
        warehouse,
        "from position_bias where dataset = 'old' and protocol = 'scores' and category = 'all'",
    )
    # Whoever was shown first won, each time.
    assert (bias["pairs"], bias["orders_disagree"], bias["full_flips"]) == (20, 20, 20)
    assert (bias["toward_first"], bias["toward_second"], bias["toward_first_pct"]) == (20, 0, 100.0)
    categories = warehouse.query(
        "select category from position_bias where dataset = 'old' and protocol = 'scores'"
    )
    assert sorted(categories["category"]) == ["all", "math"]


def test_turns_are_expected_where_they_are_judged(warehouse: Warehouse):
    row = only(
        warehouse,
        "from win_rates where dataset = 'now' and matchup = 'm' and is_default_rule",
    )
    assert (row["rule"], row["expected"], row["win"], row["lose"]) == ("both_agree", 40, 20, 20)
    rules = warehouse.query("select rule from win_rates where dataset = 'now' and matchup = 'm'")
    assert sorted(rules["rule"]) == ["both_agree", "win_or_tie"]


def test_people_agree_with_the_judge_of_the_same_turn(warehouse: Warehouse):
    rows = warehouse.query("from judge_agreement where not with_ties order by turn").to_dicts()
    assert [(row["judge_a"], row["judge_b"], row["turn"]) for row in rows] == [
        ("gpt", "expert", 0),
        ("gpt", "expert", 1),
    ]
    # They always vote for `solo`, which wins every second question.
    assert all((row["votes"], row["agree"]) == (20, 10) for row in rows)


def test_models_that_never_met_are_not_ranked_together(warehouse: Warehouse):
    board = warehouse.query(
        "from leaderboard where dataset = 'now' and protocol = 'scores' order by component, rank"
    )
    # one met gpt-x and two.
    assert board["component"].n_unique() == 1
    assert board["model"].to_list() == ["two", "one", "gpt-x"]
    assert board["matchups"].to_list() == [1, 2, 1]


def test_a_verdict_is_traced_to_all_that_it_comes_from(warehouse: Warehouse):
    rows = warehouse.query(
        "from verdict_trace where dataset = 'now' and subject = 'n' and question_id = 'q00' "
        "order by shown_first"
    ).to_dicts()
    assert [row["shown_first"] for row in rows] == ["a", "b"]
    row = rows[0]
    assert (row["winner"], row["score_a"], row["score_b"]) == ("b", 4.0, 6.0)
    assert (row["reply_model"], row["cost_usd"]) == ("gpt", 0.25)
    assert len(row["answer_a"]) == len(row["answer_b"]) == 2
    assert row["answer_a"][0].startswith("one says")
    assert (row["checkpoint_a"], row["checkpoint_b"]) == ("now-one", "now-two")
    assert row["frequent_tags_a"] == [
        {"tag": "math", "samples": 2},
        {"tag": "sums", "samples": 1},
    ]
    assert row["frequent_tags_b"] is None
    by_turn = warehouse.query(
        "select turn, len(answer_b) as answers from verdict_trace where dataset = 'now' "
        "and subject = 'm' and question_id = 'q00' and shown_first = 'a' order by turn"
    )
    assert by_turn.rows() == [(1, 1), (2, 2)]
    single = warehouse.query(
        "from verdict_trace where dataset = 'old' and kind = 'single' and question_id = 'q00'"
    )
    assert single.height == 2
    assert single["model_b"].null_count() == 2


def test_every_verdict_is_traced_once(warehouse: Warehouse):
    counted = only(
        warehouse,
        "select count(*) as rows, count(distinct (result_id, question_id, turn, shown_first)) "
        "as verdicts from verdict_trace",
    )
    # old: 40 + 40 + 40 singles; early, with those not asked: 40; now: 40 outside, 80 by turn, 40;
    # hard: 40.
    assert counted["rows"] == counted["verdicts"] == 360


def test_what_is_counted_anew_is_the_same(warehouse: Warehouse):
    """Whatever kinds of results a lake holds."""
    assert oracle.faults(warehouse) == []
