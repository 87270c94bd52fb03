"""Rules that merge two orders, against their definitions and a published file."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.verdicts.merging import RULES, both_agree, win_or_tie

WINNERS = st.sampled_from(["a", "b", "tie", None])
SWAPPED = {"a": "b", "b": "a", "tie": "tie", None: None}
MIRRORED = {"win": "lose", "lose": "win", "tie": "tie", "unparsable": "unparsable"}
FASTCHAT = {"model_1": "a", "model_2": "b", "tie": "tie", "error": None}


@pytest.mark.parametrize(
    ("first", "second", "agreeing", "either"),
    [
        ("a", "a", "win", "win"),
        ("b", "b", "lose", "lose"),
        ("a", "b", "tie", "tie"),
        ("tie", "tie", "tie", "tie"),
        ("a", "tie", "tie", "win"),
        ("tie", "b", "tie", "lose"),
    ],
)
def test_rules_by_hand(first, second, agreeing, either):
    assert both_agree(first, second) == agreeing
    assert win_or_tie(first, second) == either


@pytest.mark.parametrize("rule", RULES.values())
@given(first=WINNERS, second=WINNERS)
def test_rules_favour_neither_model_nor_order(rule, first, second):
    assert rule(first, second) == rule(second, first)
    assert rule(SWAPPED[first], SWAPPED[second]) == MIRRORED[rule(first, second)]


@pytest.mark.parametrize("rule", RULES.values())
@given(read=WINNERS)
def test_an_unparsable_order_is_its_own_outcome_and_never_a_tie(rule, read):
    assert rule(None, read) == rule(read, None) == "unparsable"


@given(first=WINNERS, second=WINNERS)
def test_the_stricter_rule_only_turns_results_into_ties(first, second):
    if both_agree(first, second) != win_or_tie(first, second):
        assert both_agree(first, second) == "tie"


def test_fastchat_file_gives_its_known_numbers(shared_data: Path):
    path = shared_data / "judgments/mt_bench_pair/WHATMAKESGOOD_1k_sharegpt-score.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    orders = [(FASTCHAT[row["g1_winner"]], FASTCHAT[row["g2_winner"]]) for row in rows]

    assert Counter(both_agree(*order) for order in orders) == {"win": 25, "lose": 50, "tie": 85}
    disagree = sum(first != second for first, second in orders) / len(orders)
    assert f"{100 * disagree:.2f}" == "26.25"
