"""Stops before the call that would exceed a budget."""

import asyncio

from resources.llm.errors import BudgetError
from resources.llm.prices import Price
from resources.llm.request import Prepared


class Budget:
    """What may still be spent.

    Each call reserves the most that it can cost until it is answered. One that does not fit
    beside the reservations waits for calls in flight, which mostly cost less.

    Args:
        limit_usd: Most dollars.
        spent_usd: Dollars spent before.
        price: Price of the model.
    """

    def __init__(self, limit_usd: float, spent_usd: float, price: Price) -> None:
        self._limit = limit_usd
        self._spent = spent_usd
        self._price = price
        self._reserved = 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, prepared: Prepared, remaining: int) -> float:
        """Reserve the most that a call can cost, in dollars.

        Args:
            prepared: The call.
            remaining: Calls not yet made, this one included; for the message.

        Raises:
            BudgetError: It would exceed the budget.
        """
        most = self._price.cost(prepared.most_prompt_tokens, prepared.max_tokens)
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._reserved == 0 or self._spent + self._reserved + most <= self._limit
            )
            if self._spent + self._reserved + most > self._limit:
                raise self.reached(most, remaining)
            self._reserved += most
        return most

    async def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the call's cost; all of it where the cost was not told."""
        async with self._changed:
            self._reserved = max(self._reserved - reserved, 0.0)
            if self._reserved < 1e-12:
                self._reserved = 0.0
            self._spent += reserved if cost is None else cost
            self._changed.notify_all()

    def reached(self, most: float, remaining: int) -> BudgetError:
        """The error that says where the budget stands."""
        return BudgetError(
            f"budget reached: ${self._spent:.4f} of ${self._limit:.4f} spent, the next call may "
            f"cost ${most:.4f}, {remaining} calls remain; replies so far are kept: raise "
            "budget.max_cost_usd and run again",
            spent_usd=self._spent,
            limit_usd=self._limit,
            remaining=remaining,
        )
