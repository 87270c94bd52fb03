"""The batches and their calls as the store has them, for every process to see."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from resources.llm.batch.sheet import Sheet
from resources.llm.database import Database
from resources.llm.store import BATCH_CALLS, BATCHES, ReplyStore, chunked

# Calls that are looked up and claimed at once, and replies that are kept in one transaction.
AT_ONCE = 1_000


@dataclass(slots=True)
class Batch:
    """A batch as the store has it, and what this process knows of it beyond that."""

    batch_id: str
    role: str
    stage: str
    dataset: str | None
    run: str | None
    model: str
    endpoint: str
    state: str
    most_usd: float | None
    created_at: int
    file_id: str | None = None
    provider_id: str | None = None
    detail: str | None = None
    sheet: Sheet | None = None
    needed: bool = False
    told: tuple[str, int, int] | None = None
    unreached_since: float | None = None


class Ledger:
    """The batches and their calls in the store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holding = (
            sa.select(BATCH_CALLS.c.reply_id, BATCH_CALLS.c.batch_id)
            .join(BATCHES, BATCHES.c.batch_id == BATCH_CALLS.c.batch_id)
            .where(BATCHES.c.state != "done", database.among(BATCH_CALLS.c.reply_id))
        )

    def open_ids(self, model: str, endpoint: str | None = None) -> list[str]:
        """Batches of a model that are not done, the oldest first."""
        asked = sa.select(BATCHES.c.batch_id).where(
            BATCHES.c.state != "done", BATCHES.c.model == model
        )
        if endpoint is not None:
            asked = asked.where(BATCHES.c.endpoint == endpoint)
        with self._database.reading() as connection:
            return list(connection.scalars(asked.order_by(BATCHES.c.created_at)))

    def find(self, batch_id: str) -> Batch | None:
        """A batch; ``None`` where there is none of the id."""
        asked = sa.select(BATCHES).where(BATCHES.c.batch_id == batch_id)
        with self._database.reading() as connection:
            row = connection.execute(asked).mappings().first()
        return None if row is None else Batch(**row)

    def holding(self, keys: Sequence[str]) -> dict[str, str]:
        """The open batch that a call stands in, by key; calls that stand in none are left out."""
        listed = self._database.bound_keys(keys)
        with self._database.reading() as connection:
            return dict(connection.execute(self._holding, listed).tuples().all())

    def keys(self, batch_id: str) -> list[str]:
        """Keys of a batch's calls."""
        asked = sa.select(BATCH_CALLS.c.reply_id).where(BATCH_CALLS.c.batch_id == batch_id)
        with self._database.reading() as connection:
            return list(connection.scalars(asked))

    def add(self, batch: Batch, keys: Iterable[str]) -> None:
        """Write a batch down with its calls, in one durable step."""
        row = {column.name: getattr(batch, column.name) for column in BATCHES.columns}
        calls = [{"batch_id": batch.batch_id, "reply_id": key} for key in keys]
        with self._database.writing() as connection:
            connection.execute(BATCHES.insert(), row)
            connection.execute(BATCH_CALLS.insert(), calls)

    def change(self, batch: Batch, **values: str) -> None:
        """Write down what is new of a batch."""
        with self._database.writing() as connection:
            connection.execute(
                BATCHES.update().where(BATCHES.c.batch_id == batch.batch_id).values(**values)
            )
        for name, value in values.items():
            setattr(batch, name, value)


def open_batches_hold(store: ReplyStore, model: str, keys: Collection[str]) -> bool:
    """Whether calls stand in batches that are not done yet.

    Args:
        store: The reply store.
        model: The model's label.
        keys: Keys of the calls.

    Raises:
        StoreError: The store can't be read.
    """
    ledger = Ledger(store.database)
    return bool(ledger.open_ids(model)) and any(map(ledger.holding, chunked(keys, AT_ONCE)))
