"""What the parts of one stage's batching work with in common."""

from collections.abc import Callable
from dataclasses import dataclass

from resources.llm.batch.claims import Claims
from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.batch.provider import Provider
from resources.llm.batch.stage import BatchStage


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
