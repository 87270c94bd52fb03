"""Rules that merge two orders, against their definitions and a published file."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.protocols.merging import (
    RULES,
    Verdict,
    both_agree,
    sum_of_scores,
    win_or_tie,
)
from opencs_assets.protocols.registry import pair_protocols

SCORES = st.floats(1, 10)
SWAPPED = {"a": "b", "b": "a", "tie": "tie"}
MIRRORED = {"win": "lose", "lose": "win", "tie": "tie", "unparsable": "unparsable"}


@st.composite
def verdicts(draw) -> Verdict:
    score_a, score_b = draw(SCORES), draw(SCORES)
    winner = "tie" if score_a == score_b else "a" if score_a > score_b else "b"
    return Verdict(winner, score_a, score_b)


def mirrored(verdict: Verdict) -> Verdict:
    return Verdict(SWAPPED[verdict.winner], verdict.score_b, verdict.score_a)


FASTCHAT = {"model_1": "a", "model_2": "b", "tie": "tie"}


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
    assert both_agree(Verdict(first), Verdict(second)) == agreeing
    assert win_or_tie(Verdict(first), Verdict(second)) == either


@pytest.mark.parametrize("rule", RULES.values())
@given(first=verdicts(), second=verdicts())
def test_rules_favour_neither_model_nor_order(rule, first, second):
    assert rule(first, second) == rule(second, first)
    assert rule(mirrored(first), mirrored(second)) == MIRRORED[rule(first, second)]


@pytest.mark.parametrize("rule", RULES.values())
@given(read=verdicts() | st.none())
def test_an_unparsable_order_is_its_own_outcome_and_never_a_tie(rule, read):
    assert rule(None, read) == rule(read, None) == "unparsable"


@pytest.mark.parametrize("rule", RULES.values())
@given(shown=verdicts())
def test_a_judge_that_sees_only_positions_decides_nothing(rule, shown):
    assert rule(shown, mirrored(shown)) == "tie"


@given(first=verdicts(), second=verdicts())
def test_the_stricter_rule_only_turns_results_into_ties(first, second):
    if both_agree(first, second) != win_or_tie(first, second):
        assert both_agree(first, second) == "tie"


@given(bias=st.floats(0.5, 0.9), worth=st.floats(0.001, 0.09))
def test_scores_tell_apart_what_position_hides(bias, worth):
    first = Verdict("a", 1 + 9 * (bias + worth), 1 + 9 * (1 - bias - worth))
    second = Verdict("b", 1 + 9 * (1 - bias + worth), 1 + 9 * (bias - worth))
    assert sum_of_scores(first, second) == "win"


def test_verdicts_without_scores_have_no_sum():
    assert sum_of_scores(Verdict("a"), Verdict("a")) == "unparsable"


def test_the_default_rule_goes_with_the_protocol():
    assert {name: protocol.default_rule for name, protocol in pair_protocols().items()} == {
        "scores": "win_or_tie",
        "choice": "both_agree",
        "preference": "sum_of_scores",
    }
    assert {protocol.default_rule for protocol in pair_protocols().values()} <= set(RULES)


def test_fastchat_file_gives_its_known_numbers(shared_data: Path):
    path = shared_data / "judgments/mt_bench_pair/WHATMAKESGOOD_1k_sharegpt-score.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    orders = [(FASTCHAT[row["g1_winner"]], FASTCHAT[row["g2_winner"]]) for row in rows]

    assert Counter(both_agree(Verdict(first), Verdict(second)) for first, second in orders) == {
        "win": 25,
        "lose": 50,
        "tie": 85,
    }
    disagree = sum(first != second for first, second in orders) / len(orders)
    assert f"{100 * disagree:.2f}" == "26.25"
