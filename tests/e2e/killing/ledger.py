"""What the reply store says: which replies are kept, and which calls a kill has lost."""

from pathlib import Path

import sqlalchemy as sa

from resources.settings import load_settings
from resources.warehouse import query


def lost_calls(home: Path) -> int:
    """Calls that the home's ledger books as lost.

    They are read from ``llm_usage`` of the warehouse where that is built, else from the table
    ``sent_calls`` of the reply store.

    Raises:
        AssertionError: The ledger has no such thing.
    """
    settings = load_settings(home)
    if settings.warehouse.exists():
        usage = query(settings.warehouse, "from llm_usage")
        assert "lost_calls" in usage.columns, "llm_usage has no column lost_calls"
        return int(usage["lost_calls"].fill_null(0).sum())
    engine = sa.create_engine(settings.replies)
    try:
        assert sa.inspect(engine).has_table("sent_calls"), "the reply store has no table sent_calls"
        with engine.connect() as connection:
            counted = connection.execute(
                sa.text("select count(*) from sent_calls where lost_at is not null")
            )
            return int(counted.scalar_one())
    finally:
        engine.dispose()


def kept_replies(home: Path) -> dict[str, tuple[str, int]]:
    """Text of every kept reply of a home, and when it was kept, by its key."""
    # Opening it would make one, without its tables.
    if not (home / "llm" / "replies.sqlite").exists():
        return {}
    engine = sa.create_engine(load_settings(home).replies)
    try:
        if not sa.inspect(engine).has_table("replies"):
            return {}
        with engine.connect() as connection:
            rows = connection.execute(sa.text("select reply_id, text, created_at from replies"))
            return {key: (text, created_at) for key, text, created_at in rows}
    finally:
        engine.dispose()


def assert_booked(home: Path, in_flight: int, repeated: int) -> None:
    """Fail unless the ledger has the calls that the kill lost.

    Args:
        home: The home, in which the same command has gone on.
        in_flight: Calls that the model was answering at the kill, the most that can be lost.
        repeated: Calls that were made again: each was lost once.
    """
    if not in_flight and not repeated:
        return
    lost = lost_calls(home)
    assert repeated <= lost <= in_flight, (
        f"the ledger has {lost} lost calls; {in_flight} were in flight at the kill, and "
        f"{repeated} were made again"
    )
