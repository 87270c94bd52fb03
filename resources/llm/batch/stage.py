"""The stage that has calls made in batches."""

from dataclasses import dataclass
from pathlib import Path

from resources.llm.budget import Budget
from resources.llm.prices import Price
from resources.settings import Role


@dataclass(frozen=True)
class BatchStage:
    """Who asks for calls, of which model, and at whose cost.

    Attributes:
        name: Asset that asks; kept with each reply.
        dataset: Dataset that it asks for; kept with each reply.
        run: The run that pays.
        role_name: tagger, scorer, refiner or judge.
        role: The role's settings.
        price: Price of the model, where known.
        budget: What may be spent; ``None`` where there is no limit or no price.
        folder: Where the files of batches lie while this process works with them.
    """

    name: str
    dataset: str | None
    run: str | None
    role_name: str
    role: Role
    price: Price | None
    budget: Budget | None
    folder: Path
