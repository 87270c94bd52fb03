"""Published judgments give their known numbers, to the last printed digit, through the real dbt."""

import pytest

from resources.warehouse import Warehouse
from tests.integration.warehouse.public_lake import HALVED

pytestmark = pytest.mark.usefixtures("shared_data")


def test_single_judgments_and_their_means(warehouse: Warehouse):
    scores = warehouse.query("from answer_scores where benchmark = 'mt_bench' order by model")
    means = ("turn_1", "turn_2", "score")
    assert [
        (row["judged"], row["unparsable"], row["complete"], *(f"{row[name]:.4f}" for name in means))
        for row in scores.iter_rows(named=True)
    ] == [
        (160, 1, True, "6.3537", "4.5848", "5.4748"),
        (160, 0, True, "6.0213", "4.9162", "5.4688"),
        (160, 1, True, "2.3125", "2.2025", "2.2579"),
    ]
    assert all(
        row["ci_low"] < row["score"] < row["ci_high"] and row["ci_high"] - row["ci_low"] < 1.5
        for row in scores.iter_rows(named=True)
    )


def test_half_of_a_file_is_badged_and_kept_out(warehouse: Warehouse):
    assert HALVED not in warehouse.query("select model from answer_scores")["model"]
    assert HALVED not in warehouse.query("select model from answer_scores_by_category")["model"]
    (row,) = warehouse.query(f"from answer_scores_all where model = '{HALVED}'").to_dicts()
    assert (row["judged"], row["expected"], row["complete"]) == (80, 160, False)
    assert row["badge"] == "incomplete"
    assert row["reason"].startswith("80 of 160 judgments are missing: 80 of turn 2")
    assert f"{row['score']:.4f}" == "6.3537"


def test_categories_add_up_to_the_whole(warehouse: Warehouse):
    for row in warehouse.query(
        "select scores.score, sum(part.score * (part.judged - part.unparsable)) "
        "/ sum(part.judged - part.unparsable) as of_parts, count(*) as categories, "
        "sum(part.judged) as judged "
        "from answer_scores as scores join answer_scores_by_category as part using (result_id) "
        "where scores.benchmark = 'mt_bench' "
        "group by result_id, scores.score"
    ).to_dicts():
        assert row["of_parts"] == pytest.approx(row["score"], rel=1e-12)
        assert (row["categories"], row["judged"]) == (8, 160)


def test_pair_judgments_by_fastchats_rule(warehouse: Warehouse):
    (row,) = warehouse.query(
        "from win_rates where is_default_rule and matchup like 'Llama-2-7b-hf-cluster%'"
    ).to_dicts()
    assert row["rule"] == "both_agree"
    assert (row["win"], row["lose"], row["tie"], row["complete"]) == (25, 50, 85, True)
    assert row["orders_disagree_pct"] == 26.25
    assert row["adjusted_win_pct"] == pytest.approx(100 * (25 + 85 / 2) / 160)
    # Without scores there is no sum of them.
    assert warehouse.query(
        "select rule from win_rates where matchup like 'Llama-2-7b-hf-cluster%' order by rule"
    )["rule"].to_list() == ["both_agree", "win_or_tie"]


def test_gpt4_agrees_with_experts_as_published(warehouse: Warehouse):
    found = warehouse.query(
        "from judge_agreement where judge_a = 'gpt4' and judge_b = 'expert' and not with_ties "
        "order by turn"
    )
    whole, *turns = found.to_dicts()
    assert (whole["votes"], whole["agree"], whole["turn"]) == (1723, 1458, 0)
    assert f"{whole['agree_pct']:.1f}" == "84.6"
    assert sum(row["votes"] for row in turns) == 1723
    assert [row["turn"] for row in turns] == [1, 2]
    (tied,) = warehouse.query(
        "from judge_agreement where judge_a = 'gpt4' and judge_b = 'expert' and with_ties "
        "and turn = 0"
    ).to_dicts()
    assert tied["votes"] > 1723
    assert tied["agree_pct"] < whole["agree_pct"]
    assert 0 < tied["kappa"] < whole["kappa"] < 1


def test_gpt4s_orders_disagree_as_published(warehouse: Warehouse):
    (row,) = warehouse.query(
        "from position_bias where judge = 'gpt4' and category = 'all'"
    ).to_dicts()
    assert (row["pairs"], row["orders_disagree"]) == (2400, 380)
    assert f"{row['orders_disagree_pct']:.1f}" == "15.8"
    # Its file does not say which way they do; the pair file does.
    assert (row["full_flips"], row["toward_first_pct"]) == (None, None)
    (row,) = warehouse.query(
        "from position_bias where judge = 'gpt-4' and category = 'all'"
    ).to_dicts()
    assert (row["pairs"], row["orders_disagree"]) == (160, 42)
    assert row["toward_first"] + row["toward_second"] == 42


def test_people_are_no_result_and_rank_nobody(warehouse: Warehouse):
    judges = warehouse.query(
        "select distinct judge from win_rates_all where benchmark = 'mt_bench'"
    )["judge"].to_list()
    assert sorted(judges) == ["gpt-4", "gpt4"]
    board = warehouse.query("from leaderboard where judge = 'gpt4' order by rank")
    assert board["model"].to_list()[0] == "gpt-4"
    assert board["model"].to_list()[-1] == "llama-13b"
    assert board["rating"].mean() == pytest.approx(1000)
    assert (board["ci_low"] < board["rating"]).all()
