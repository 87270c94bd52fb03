"""Budgets over several owners that share a limit."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.llm.budget import Budget, lost_part
from resources.llm.coordination import Coordination
from resources.llm.errors import BudgetError

SCOPES = (f"month {number}" for number in itertools.count())


class Spending:
    """The dollars spent, as the store tells them; ``meanwhile`` is called as it is asked."""

    def __init__(self) -> None:
        self.usd = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def spent(self, scope: str) -> float:
        assert scope.startswith("month")
        before = self.usd
        self.meanwhile()
        return before


@pytest.fixture
def spending() -> Spending:
    return Spending()


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Coordination]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('budgets') / 'replies.sqlite'}"
    with ExitStack() as opened:
        yield [opened.enter_context(Coordination(url)) for _ in range(3)]


def budgets_of(owners: list[Coordination], spending: Spending, limit: float) -> list[Budget]:
    """Budgets of owners that share a limit, which no other test has."""
    scope = next(SCOPES)
    return [Budget({scope: limit}, spending.spent, shared) for shared in owners]


@pytest.fixture
def budgets(owners: list[Coordination], spending: Spending) -> list[Budget]:
    """Budgets of three owners, of a dollar together."""
    return budgets_of(owners, spending, 1.0)


def spend(budget: Budget, most: float) -> bool:
    return budget.reserve(most) or (budget.book(most) and budget.reserve(most))


def test_what_was_not_booked_is_not_spent(budgets):
    budget = budgets[0]
    for _ in range(2):
        assert not budget.reserve(0.4)
        assert budget.book(0.4)
        assert budget.reserve(0.4)
    assert not budget.book(0.4)
    # To the last cent, and no further.
    assert spend(budget, 0.2)
    assert not spend(budget, 1e-6)


def test_what_is_booked_suffices_whatever_the_rounding(budgets):
    assert budgets[0].book(0.3)
    assert [budgets[0].reserve(0.1) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("most", "count"), [(0.001, 256), (0.01, 16), (0.1, 1)])
def test_small_calls_are_booked_many_at_a_time(budgets, most, count):
    assert budgets[0].book(most)
    assert all(budgets[0].reserve(most) for _ in range(count))
    assert not budgets[0].reserve(most)


def test_calls_that_cost_less_than_their_most_leave_the_rest(budgets, spending):
    budget = budgets[0]
    assert budget.book(0.6)
    assert budget.reserve(0.6)
    spending.usd = 0.25
    budget.settle(0.6, 0.25)
    # Nothing new is booked for it.
    spending.meanwhile = lambda: pytest.fail("the store was asked")
    assert budget.book(0.35)
    assert budget.reserve(0.35)
    assert not budget.reserve(0.001)


def test_others_have_what_is_released(budgets):
    one, two, _ = budgets
    assert one.book(0.6)
    assert one.reserve(0.2)
    assert not two.book(0.6)
    assert two.others_wait()
    one.release()
    # What is reserved stays booked.
    assert not one.reserve(0.001)
    assert two.others_wait()
    assert not two.book(0.81)
    assert two.book(0.6)
    one.settle(0.2, 0.0)
    one.release()
    assert not two.others_wait()
    assert one.others_wait()


def test_what_calls_in_flight_reserve_stays_booked_whatever_others_cost(budgets):
    budget = budgets[0]
    assert budget.book(0.6)
    assert all(budget.reserve(0.2) for _ in range(3))
    budget.settle(0.2, 0.1)
    # A tenth is spent and two fifths are reserved of the three fifths that are booked.
    assert not budget.reserve(0.15)
    budget.settle(0.2, 0.0)
    budget.release()
    assert not budget.reserve(0.001)
    budget.settle(0.2, 0.0)
    assert budget.reserve(0.2)


def test_what_is_released_is_let_go_though_more_was_spent_than_the_limit(budgets, spending):
    """A call may cost more than was thought; then others must not wait for its owner for ever."""
    one, two, _ = budgets
    assert spend(one, 0.6)
    spending.usd = 1.2
    one.settle(0.6, 1.2)
    one.release()
    assert not two.others_wait()
    assert not one.book(0.1)


@pytest.mark.parametrize("reading", [1, 2, 3])
def test_what_is_settled_while_a_booking_is_on_its_way_is_not_forgotten(budgets, spending, reading):
    """A call is settled after the store told what is spent, for each portion that is tried."""
    budget, readings = budgets[0], iter(range(1, 9))
    assert spend(budget, 0.5)

    def settle() -> None:
        if next(readings) == reading:
            spending.usd += 0.5
            budget.settle(0.5, 0.5)

    spending.meanwhile = settle
    assert budget.book(0.5)
    # One dollar is booked and half of it spent: only the other half is left.
    assert budget.reserve(0.5)
    assert not budget.reserve(0.1)


def test_a_call_whose_cost_is_not_told_counts_as_the_most_it_can_cost(budgets):
    budget = budgets[0]
    for _ in range(2):
        assert spend(budget, 0.4)
        # The store has no cost of it either.
        budget.settle(0.4, None)
    assert not budget.book(0.4)
    assert budget.book(0.15)


def test_all_scopes_must_have_room(owners):
    spent = {"run r": 0.0, "asset r open_tags": 0.5}
    budget = Budget({"run r": 2.0, "asset r open_tags": 1.0}, spent.__getitem__, owners[0])
    assert not budget.book(0.6)
    assert budget.book(0.5)


MONTH = "month 2026-11"


@pytest.mark.parametrize(
    ("limits", "spent", "limit", "what", "setting"),
    [
        # The scope that has the least left counts, whichever was spent most of.
        ({"run r": 2.0, MONTH: 9.0}, {"run r": 1.5, MONTH: 2.0}, 2.0, "run", ""),
        ({"run r": 9.0, MONTH: 2.5}, {"run r": 2.0, MONTH: 2.0}, 2.5, "month", "_per_month"),
        (
            {"asset r s": 1.0, MONTH: 5.0},
            {"asset r s": 0.9, MONTH: 4.0},
            1.0,
            "asset",
            "_per_asset",
        ),
    ],
)
def test_it_says_where_it_stands(limits, spent, limit, what, setting):
    # Nothing is booked for it.
    budget = Budget(limits, spent.__getitem__, shared=None)  # type: ignore[arg-type]
    error = budget.reached(0.75, 12)
    assert isinstance(error, BudgetError)
    usd = next(spent[scope] for scope in limits if limits[scope] == limit)
    assert (error.spent_usd, error.limit_usd, error.remaining) == (usd, limit, 12)
    assert f"budget of the {what} reached: ${usd:.4f} of ${limit:.4f} spent, the" in str(error)
    assert "may cost $0.7500, 12 calls remain" in str(error)
    assert f"raise budget.max_cost_usd{setting} and" in str(error)


def test_it_says_how_much_was_lost():
    budget = Budget({MONTH: 2.0}, lambda _: 1.5, None, lambda _: 0.25)  # type: ignore[arg-type]
    lost = "$1.5000 of $2.0000 spent ($0.25 of it for calls that were in flight when"
    assert lost in str(budget.reached(0.75, 12))
    assert lost_part(0.0) == ""


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["call", "end", "release"]), st.floats(0.01, 1.5)
        ),
        max_size=40,
    )
)
def test_owners_never_exceed_a_limit_together(owners, steps):
    """Whatever the order, and wherever calls end while a booking is on its way."""
    spending = Spending()
    sent: list[list[float]] = [[], [], []]
    budgets = budgets_of(owners, spending, 3.0)

    def end(owner: int, share: float) -> None:
        if sent[owner]:
            most = sent[owner].pop()
            spending.usd += most * share
            budgets[owner].settle(most, most * share)

    for owner, what, usd in steps:
        if what == "release":
            budgets[owner].release()
        elif what == "end":
            end(owner, min(usd, 1.0))
        else:
            spending.meanwhile = lambda owner=owner, usd=usd: end(owner, min(usd, 1.0))
            allowed = spend(budgets[owner], usd)
            spending.meanwhile = lambda: None
            if allowed:
                sent[owner].append(usd)
        assert spending.usd + sum(map(sum, sent)) <= 3.0 + 1e-9


def test_threads_that_share_a_limit_never_exceed_it(budgets, spending):
    lock = threading.Lock()
    in_flight = most_at_once = 0.0

    def work(budget: Budget) -> None:
        nonlocal in_flight, most_at_once
        for _ in range(40):
            if not spend(budget, 0.02):
                budget.release()
                continue
            with lock:
                in_flight += 0.02
                most_at_once = max(most_at_once, spending.usd + in_flight)
            with lock:
                in_flight -= 0.02
                spending.usd += 0.015
            budget.settle(0.02, 0.015)
        budget.release()

    threads = [threading.Thread(target=work, args=(budget,)) for budget in budgets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most_at_once <= 1.0 + 1e-9
    # What calls did not cost of their most can be spent as well.
    assert spending.usd > 0.9
