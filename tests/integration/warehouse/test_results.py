"""Results of all kinds in one lake: older files, early stops, outside models, votes, and traces."""

import pytest

from opencs_assets.statistics.sequential import interval
from resources.warehouse import Warehouse
from tests.integration.warehouse.results_lake import NAMES


def only(warehouse: Warehouse, sql: str) -> dict:
    (row,) = warehouse.query(sql).to_dicts()
    return row


def test_lengths_are_controlled_with_difficulties_where_the_benchmark_has_them(
    warehouse: Warehouse,
):
    found = warehouse.query(
        "select distinct benchmark, lc_method from length_bias "
        "where benchmark in ('short', 'hard') order by benchmark"
    )
    assert found.rows() == [("hard", "lc_alpaca_eval2"), ("short", "lc_no_difficulty")]
    (row,) = warehouse.query("from length_bias where benchmark = 'hard'").to_dicts()
    assert row["lc_questions"] == len(NAMES)
    assert 50 < row["lc_win_pct"] < 80


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
    rows = warehouse.query(
        "from judge_agreement where not with_ties and benchmark = 'short' order by turn"
    ).to_dicts()
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
        "as verdicts from verdict_trace where benchmark in ('short', 'hard')",
    )
    # old: 40 + 40 + 40 singles; early, with those not asked: 40; now: 40 outside, 80 by turn, 40;
    # hard: 40.
    assert counted["rows"] == counted["verdicts"] == 360
