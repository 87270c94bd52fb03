"""Stops before the call that would exceed a budget, which several processes may share."""

import threading
from collections.abc import Callable, Mapping

from resources.llm.coordination import Coordination
from resources.llm.errors import BudgetError

# Dollars are booked for so many calls at once, so that few bookings are needed.
_PORTIONS = (256, 16, 1)


class Budget:
    """What this process may still spend.

    Dollars are booked in ``coordination`` before they are spent, so that several processes never
    exceed a budget together. Within what is booked, each call reserves the most that it can cost
    until it is answered. ``limits`` are the most dollars by scope (this run, an asset, the month);
    ``spent`` gives the dollars spent so far in a scope, ``lost`` those among them for calls that
    their process's end left in flight.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        spent: Callable[[str], float],
        shared: Coordination,
        lost: Callable[[str], float] = lambda scope: 0.0,
    ) -> None:
        self._limits = limits
        self._spent_in = spent
        self._lost_in = lost
        self._shared = shared
        # One thread reserves and settles calls while another waits for the database.
        self._lock = threading.Lock()
        self._booked = 0.0
        self._spent = 0.0
        self._reserved = 0.0
        # Dollars that the store does not know of, because the endpoint did not say what calls cost.
        self._unstored = 0.0

    def reserve(self, most: float) -> bool:
        """Reserve the most that a call can cost, in dollars; ``False`` if less is booked."""
        with self._lock:
            if not self._has(most):
                return False
            self._reserved += most
            return True

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the call's cost, or spend all of it where that is unknown."""
        with self._lock:
            self._reserved = max(self._reserved - reserved, 0.0)
            self._spent += reserved if cost is None else cost
            self._unstored += reserved if cost is None else 0.0

    def book(self, most: float) -> bool:
        """Book enough for a call, and for more where that fits; whether it may be sent now."""
        for portion in _PORTIONS:
            with self._lock:
                if self._has(most):
                    # Earlier calls cost less than was reserved for them.
                    return True
                spent, booked = self._spent, self._reserved + most * portion
                limits = {scope: usd - self._unstored for scope, usd in self._limits.items()}
            if self._shared.book(dict.fromkeys(limits, booked), limits, self._spent_in):
                with self._lock:
                    self._booked = booked
                    # The store's sums hold what was spent before. The cost of calls that were
                    # settled since stays in this process's own sum, because the sums may have been
                    # read before those calls were kept.
                    self._spent = max(self._spent - spent, 0.0)
                return True
        return False

    def release(self) -> None:
        """Book no more than what is reserved, so that others may have the rest."""
        with self._lock:
            booked = self._reserved
            # From here on nothing is reserved beyond that.
            self._booked = self._spent + booked
        self._shared.book_less(dict.fromkeys(self._limits, booked))

    def _has(self, most: float) -> bool:
        return self._spent + self._reserved + most <= self._booked + 1e-12

    def others_wait(self) -> bool:
        """Whether other processes have dollars booked that they may not need after all."""
        return self._shared.others_book(list(self._limits))

    def reached(self, most: float, remaining: int) -> BudgetError:
        """The error that says how much is spent, what the next call may cost and what remains."""
        scope, limit, spent = min(
            ((name, limit, self._spent_in(name)) for name, limit in self._limits.items()),
            key=lambda scope_limit_spent: scope_limit_spent[1] - scope_limit_spent[2],
        )
        what, setting = _SETTINGS[scope.split(" ")[0]]
        return BudgetError(
            f"budget of {what} reached: ${spent:.4f} of ${limit:.4f} spent"
            f"{lost_part(self._lost_in(scope))}, the next call may cost ${most:.4f}, "
            f"{remaining} calls remain; replies so far are kept: raise {setting} and run again",
            spent_usd=spent,
            limit_usd=limit,
            remaining=remaining,
        )


def lost_part(usd: float) -> str:
    """The words about lost calls that follow the dollars spent; empty where no call was lost."""
    if not usd:
        return ""
    return f" (${usd:,.4g} of it for calls that were in flight when their process was killed)"


_SETTINGS = {
    "run": ("the run", "budget.max_cost_usd"),
    "asset": ("the asset", "budget.max_cost_usd_per_asset"),
    "month": ("the month", "budget.max_cost_usd_per_month"),
}
