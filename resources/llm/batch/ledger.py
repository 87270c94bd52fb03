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
    reported_counts: tuple[str, int, int] | None = None
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
        query = sa.select(BATCHES.c.batch_id).where(
            BATCHES.c.state != "done", BATCHES.c.model == model
        )
        if endpoint is not None:
            query = query.where(BATCHES.c.endpoint == endpoint)
        with self._database.reading() as connection:
            return list(connection.scalars(query.order_by(BATCHES.c.created_at)))

    def find(self, batch_id: str) -> Batch | None:
        """The batch of an id; ``None`` where there is none."""
        query = sa.select(BATCHES).where(BATCHES.c.batch_id == batch_id)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else Batch(**row)

    def holding(self, keys: Sequence[str]) -> dict[str, str]:
        """Id of the open batch that holds each call, by key; calls that none holds are left out."""
        parameters = self._database.bound_keys(keys)
        with self._database.reading() as connection:
            return dict(connection.execute(self._holding, parameters).tuples().all())

    def keys(self, batch_id: str) -> list[str]:
        """Keys of a batch's calls."""
        query = sa.select(BATCH_CALLS.c.reply_id).where(BATCH_CALLS.c.batch_id == batch_id)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def add(self, batch: Batch, keys: Iterable[str]) -> None:
        """Write a batch down with its calls, in one durable step."""
        row = {column.name: getattr(batch, column.name) for column in BATCHES.columns}
        calls = [{"batch_id": batch.batch_id, "reply_id": key} for key in keys]
        with self._database.writing() as connection:
            connection.execute(BATCHES.insert(), row)
            connection.execute(BATCH_CALLS.insert(), calls)

    def change(self, batch: Batch, **values: str) -> None:
        """Write changed values of a batch into the store."""
        with self._database.writing() as connection:
            connection.execute(
                BATCHES.update().where(BATCHES.c.batch_id == batch.batch_id).values(**values)
            )
        for name, value in values.items():
            setattr(batch, name, value)


def open_batches_hold(store: ReplyStore, model: str, keys: Collection[str]) -> bool:
    """Whether batches of a model's label that are not done yet hold any of these calls.

    Raises:
        StoreError: The store can't be read.
    """
    ledger = Ledger(store.database)
    return bool(ledger.open_ids(model)) and any(map(ledger.holding, chunked(keys, AT_ONCE)))
