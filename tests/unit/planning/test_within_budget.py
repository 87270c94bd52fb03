"""What a budget lets be made, where nothing, a part or all of it is kept."""

from dataclasses import replace

import pytest

from opencs_assets.config.profiles import MethodError, resolve_constants
from opencs_assets.planning.estimate import within_budget
from opencs_assets.tables.scores import SCORE_COMPARISONS
from resources.llm.types import Estimate
from resources.settings import Method
from tests.unit.scores.test_rounds import CUT, Scorer, clusters_of, in_rounds

FOUND = Estimate(
    calls=400, stored=100, prompt_tokens=3000, completion_tokens=600, cost_usd=3.0, seconds=30.0
)
CANDIDATES = clusters_of(30, 25)


def limited(found=FOUND, kept=None, **method):
    constants = resolve_constants("corrected", Method(**method), 1_000)
    kept = SCORE_COMPARISONS.empty() if kept is None else kept
    return within_budget(found, constants, CANDIDATES, CUT, kept)


def test_without_a_budget_it_is_what_it_was():
    assert limited() == FOUND


def test_a_number_of_calls_is_the_number_at_the_price_of_those_estimated():
    assert limited(comparisons=150) == Estimate(150, 0, 1500, 300, 1.5, 15)
    assert limited(comparisons=600).cost_usd == 6.0


def test_dollars_are_as_many_calls_as_they_buy():
    assert limited(comparisons_usd=1.5).calls == 150
    assert limited(comparisons_usd=1.5, comparisons=120).calls == 120


def test_a_rerun_of_rounds_that_are_kept_makes_no_call():
    table = in_rounds(CANDIDATES, Scorer(1), calls=150)
    found = limited(kept=table, comparisons=150)
    assert found == Estimate(table.height, table.height, 0, 0, 0.0, 0.0)


def test_of_rounds_that_are_kept_in_part_the_rest_is_new():
    table = in_rounds(CANDIDATES, Scorer(1), calls=150)
    first = table.filter(table["round"] < 2)
    found = limited(kept=first, comparisons=150)
    # The third round may happen to ask nothing that was asked before.
    assert found.calls == 150
    assert found.stored == first.height
    assert found.cost_usd == pytest.approx(3.0 * (150 - first.height) / 300)


def test_what_was_kept_in_another_order_of_names_is_found():
    table = in_rounds(CANDIDATES, Scorer(1), calls=150)
    turned = table.rename(
        {"sample_a": "sample_b", "sample_b": "sample_a", "score_a": "score_b", "score_b": "score_a"}
    ).with_columns(table["shown_first"].replace({"a": "b", "b": "a"}))
    found = limited(kept=turned.select(table.columns), comparisons=150)
    assert found.stored == found.calls == table.height


def test_too_small_a_budget_is_refused():
    with pytest.raises(MethodError, match="is less than the first round takes"):
        limited(comparisons=5)


def test_without_a_price_it_is_unknown():
    assert limited(replace(FOUND, cost_usd=None), comparisons=150).cost_usd is None
    all_stored = replace(FOUND, stored=400, cost_usd=0.0)
    assert limited(all_stored, comparisons=150).cost_usd is None
