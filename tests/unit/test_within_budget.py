from dataclasses import replace

from opencs_assets.estimate import within_budget
from opencs_assets.profiles import resolve_constants
from resources.llm.types import Estimate
from resources.settings import Method

FOUND = Estimate(
    calls=400, stored=100, prompt_tokens=3000, completion_tokens=600, cost_usd=3.0, seconds=30.0
)


def limited(**method):
    return resolve_constants("corrected", Method(**method), 1_000)


def test_without_a_budget_it_is_what_it_was():
    assert within_budget(FOUND, limited()) == FOUND


def test_a_number_of_calls_is_the_number():
    assert within_budget(FOUND, limited(comparisons=250)) == Estimate(250, 100, 1500, 300, 1.5, 15)
    more = within_budget(FOUND, limited(comparisons=700))
    assert (more.calls, more.cost_usd) == (700, 6.0)


def test_dollars_are_as_many_calls_as_they_buy():
    found = within_budget(FOUND, limited(comparisons_usd=1.5))
    assert found.calls == 150
    assert within_budget(FOUND, limited(comparisons_usd=1.5, comparisons=120)).calls == 120


def test_what_is_all_kept_costs_nothing():
    kept = replace(FOUND, stored=400, cost_usd=0.0)
    assert within_budget(kept, limited(comparisons_usd=1.5)) == kept
    unknown = replace(FOUND, cost_usd=None)
    assert within_budget(unknown, limited(comparisons_usd=1.5)) == unknown
