"""Stops before the call that would exceed a budget, over all processes that share one."""

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
    until it is answered.

    Args:
        limits: Most dollars by scope (this run, an asset, the month).
        spent: Gives the dollars spent so far in a scope.
        shared: What processes share.
        lost: Gives the part of these that is of calls in flight when their process was killed.
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
        # Calls are reserved and settled in one thread while another waits for the database.
        self._lock = threading.Lock()
        self._booked = 0.0
        self._spent = 0.0
        self._reserved = 0.0
        # The part of what was spent that the store never tells, since the endpoint did not.
        self._untold = 0.0

    def reserve(self, most: float) -> bool:
        """Reserve the most that a call can cost, in dollars; whether that much is booked."""
        with self._lock:
            if not self._has(most):
                return False
            self._reserved += most
            return True

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the call's cost; all of it where the cost was not told."""
        with self._lock:
            self._reserved = max(self._reserved - reserved, 0.0)
            self._spent += reserved if cost is None else cost
            self._untold += reserved if cost is None else 0.0

    def book(self, most: float) -> bool:
        """Book enough for a call, and where it fits for more; blocks on the database.

        Returns:
            Whether the call may be sent now.
        """
        for portion in _PORTIONS:
            with self._lock:
                if self._has(most):
                    # Calls came to less than was reserved for them.
                    return True
                spent, wanted = self._spent, self._reserved + most * portion
                limits = {scope: usd - self._untold for scope, usd in self._limits.items()}
            if self._shared.book(dict.fromkeys(limits, wanted), limits, self._spent_in):
                self._book(wanted, spent)
                return True
        return False

    def release(self) -> None:
        """Book no more than what is reserved, so that others may have the rest."""
        with self._lock:
            spent, wanted = self._spent, self._reserved
            # From here on nothing is reserved beyond that.
            self._booked = spent + wanted
        self._shared.book_less(dict.fromkeys(self._limits, wanted))
        self._book(wanted, spent)

    def _has(self, most: float) -> bool:
        return self._spent + self._reserved + most <= self._booked + 1e-12

    def _book(self, booked: float, stored: float) -> None:
        """So much is booked, and so much of what was spent is in the store and all owners' sums.

        What calls cost that were settled since stays in this one's own sum: the store's may have
        been read before they were kept.
        """
        with self._lock:
            self._booked = booked
            self._spent = max(self._spent - stored, 0.0)

    def others_wait(self) -> bool:
        """Whether other processes have dollars booked that they may not need after all."""
        return self._shared.others_book(list(self._limits))

    def reached(self, most: float, remaining: int) -> BudgetError:
        """The error that says where the budget stands.

        Args:
            most: Dollars that the next call may cost.
            remaining: Calls that were not made.
        """
        scope, limit, spent = min(
            ((name, limit, self._spent_in(name)) for name, limit in self._limits.items()),
            key=lambda found: found[1] - found[2],
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
    """What a message says of lost calls after the dollars spent; nothing where there are none."""
    if not usd:
        return ""
    return f" (${usd:,.4g} of it for calls that were in flight when their process was killed)"


_SETTINGS = {
    "run": ("the run", "budget.max_cost_usd"),
    "asset": ("the asset", "budget.max_cost_usd_per_asset"),
    "month": ("the month", "budget.max_cost_usd_per_month"),
}
