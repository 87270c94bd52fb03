"""Budgets over several owners, on real SQLite files and a real Postgres."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.llm.budget import Budget
from resources.llm.coordination import Coordination
from resources.llm.errors import BudgetError

SCOPE = "month 2026-11"


class Spending:
    """What the store would tell of the dollars spent."""

    def __init__(self) -> None:
        self.usd = 0.0
        # Called while a booking is on its way.
        self.meanwhile = lambda: None

    def spent(self, scope: str) -> float:
        assert scope == SCOPE
        found = self.usd
        self.meanwhile()
        return found


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'replies.sqlite'}"


@contextmanager
def budgets(url: str, limit: float, spending: Spending, count: int) -> Iterator[list[Budget]]:
    owners = [Coordination(url) for _ in range(count)]
    try:
        yield [Budget({SCOPE: limit}, spending.spent, shared) for shared in owners]
    finally:
        for shared in owners:
            shared.close()


def test_what_was_not_booked_is_not_spent(url):
    spending = Spending()
    with budgets(url, 1.0, spending, 1) as (budget,):
        assert not budget.reserve(0.4)
        assert budget.book(0.4)
        assert budget.reserve(0.4)
        assert not budget.reserve(0.4)
        assert budget.book(0.4)
        assert budget.reserve(0.4)
        assert not budget.book(0.4)


def test_small_calls_are_booked_many_at_a_time(url):
    with budgets(url, 1.0, Spending(), 1) as (budget,):
        assert budget.book(0.001)
        assert all(budget.reserve(0.001) for _ in range(256))
        assert not budget.reserve(0.001)


def test_others_have_what_is_released(url):
    spending = Spending()
    with budgets(url, 1.0, spending, 2) as (one, two):
        assert one.book(0.6)
        assert not two.book(0.6)
        assert two.others_wait()
        one.release()
        assert not two.others_wait()
        assert two.book(0.6)


def test_what_is_released_is_let_go_though_more_was_spent_than_the_limit(url):
    """A call may cost more than was thought; then others must not wait for its owner for ever."""
    spending = Spending()
    with budgets(url, 1.0, spending, 2) as (one, two):
        assert one.book(0.6)
        assert one.reserve(0.6)
        spending.usd = 1.2
        one.settle(0.6, 1.2)
        one.release()
        assert not two.others_wait()
        assert not one.book(0.1)


def test_what_is_settled_while_a_booking_is_on_its_way_is_not_forgotten(url):
    spending = Spending()
    with budgets(url, 1.0, spending, 1) as (budget,):
        assert budget.book(0.5)
        assert budget.reserve(0.5)

        def settled() -> None:
            # Kept after the booking has read what was spent.
            spending.meanwhile = lambda: None
            spending.usd += 0.5
            budget.settle(0.5, 0.5)

        spending.meanwhile = settled
        assert budget.book(0.5)
        # One dollar is booked and half of it spent: only the other half is left.
        assert budget.reserve(0.5)
        assert not budget.reserve(0.1)


def test_a_call_whose_cost_is_not_told_counts_as_the_most_it_can_cost(url):
    with budgets(url, 1.0, Spending(), 1) as (budget,):
        for _ in range(2):
            assert budget.book(0.4)
            assert budget.reserve(0.4)
            # The store has no cost of it either.
            budget.settle(0.4, None)
        assert not budget.book(0.4)
        assert budget.book(0.15)


def test_it_says_where_it_stands():
    error = Budget(
        {"run r": 2.0, SCOPE: 9.0},
        lambda scope: 1.5 if scope == "run r" else 2.0,
        shared=None,  # type: ignore[arg-type]  # nothing is booked for it
    ).reached(0.75, 12)
    assert isinstance(error, BudgetError)
    assert (error.spent_usd, error.limit_usd, error.remaining) == (1.5, 2.0, 12)
    assert "the run" in str(error)
    assert "budget.max_cost_usd and" in str(error)
    assert "killed" not in str(error)


def test_it_says_how_much_was_lost():
    error = Budget(
        {SCOPE: 2.0},
        lambda scope: 1.5,
        None,  # type: ignore[arg-type]  # nothing is booked for it
        lambda scope: 0.25,
    ).reached(0.75, 12)
    lost = "$1.5000 of $2.0000 spent ($0.25 of it for calls that were in flight when"
    assert lost in str(error)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["call", "end", "release"]), st.floats(0.01, 1.5)
        ),
        max_size=40,
    )
)
def test_owners_never_exceed_a_limit_together(tmp_path_factory, steps):
    """Whatever the order, and wherever calls end while a booking is on its way."""
    url = f"sqlite:///{tmp_path_factory.mktemp('budget') / 'replies.sqlite'}"
    spending = Spending()
    sent: list[list[float]] = [[], [], []]
    with budgets(url, 3.0, spending, 3) as owners:

        def end(owner: int, share: float) -> None:
            if sent[owner]:
                most = sent[owner].pop()
                spending.usd += most * share
                owners[owner].settle(most, most * share)

        for owner, what, usd in steps:
            budget = owners[owner]
            if what == "release":
                budget.release()
            elif what == "end":
                end(owner, min(usd, 1.0))
            else:
                spending.meanwhile = lambda owner=owner, usd=usd: end(owner, min(usd, 1.0))
                allowed = budget.reserve(usd) or (budget.book(usd) and budget.reserve(usd))
                spending.meanwhile = lambda: None
                if allowed:
                    sent[owner].append(usd)
            assert spending.usd + sum(map(sum, sent)) <= 3.0 + 1e-9


def test_threads_that_share_a_limit_never_exceed_it(url):
    spending = Spending()
    lock = threading.Lock()
    most_at_once = [0.0]
    in_flight = [0.0]

    def work(budget: Budget) -> None:
        for _ in range(40):
            if not (budget.reserve(0.02) or (budget.book(0.02) and budget.reserve(0.02))):
                budget.release()
                continue
            with lock:
                in_flight[0] += 0.02
                most_at_once[0] = max(most_at_once[0], spending.usd + in_flight[0])
            with lock:
                in_flight[0] -= 0.02
                spending.usd += 0.015
            budget.settle(0.02, 0.015)
        budget.release()

    with budgets(url, 1.0, spending, 3) as owners:
        threads = [threading.Thread(target=work, args=(budget,)) for budget in owners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert most_at_once[0] <= 1.0 + 1e-9
        # What calls did not cost of their most can be spent as well.
        assert spending.usd > 0.9
