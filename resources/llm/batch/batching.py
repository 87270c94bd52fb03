"""What the parts of one stage's batching work with in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resources.llm.batch.claims import Claims
from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.batch.provider import Provider
from resources.llm.budget import Budget
from resources.llm.prices import Price
from resources.settings import Role


@dataclass(frozen=True)
class BatchStage:
    """Who asks for calls, of which model, and at whose cost.

    ``name`` is the asset that asks and ``run`` the run that pays. There is no budget where there is
    no limit or no price. The files of batches lie in ``folder`` while this process works with them.
    """

    name: str
    dataset: str | None
    run: str | None
    role_name: str
    role: Role
    price: Price | None
    budget: Budget | None
    folder: Path


@dataclass(frozen=True)
class Batching:
    """A stage's batches: in the store, claimed by this process, and at the provider.

    ``say`` takes a line about a batch for a person.
    """

    stage: BatchStage
    ledger: Ledger
    claims: Claims
    provider: Provider
    say: Callable[[Batch, str], None]
