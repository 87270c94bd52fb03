"""Statistics that are kept from one build to the next where what they come from is the same.

The warehouse is built in a copy of what was published, so a Python model finds the rows that it
made last time. Each carries a fingerprint of its inputs; those whose fingerprint is still the same
are taken over, and only the others are reckoned. A build with other code starts from an empty file
(``lake_files``), so that a fingerprint need not hold its version.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

SCHEMA = "interim"


def with_kept(
    session: Any,
    name: str,
    *,
    wanted: str,
    key: Sequence[str],
    inputs: str,
    reckon: Callable[[pa.Table], pa.Table],
) -> Any:
    """Rows of a Python model: those kept, and those reckoned anew.

    Args:
        session: The model's DuckDB connection.
        name: Name of the model's table.
        wanted: Query of the keys that the table should have, each with its ``fingerprint``.
        key: Columns of a key.
        inputs: Query of what the new rows come from; it may join the table ``changed``, which holds
            what ``wanted`` gives of the keys that are new.
        reckon: Makes the new rows of it, the key among their columns.

    Returns:
        A relation of the rows, with the fingerprint as their last column.
    """
    names = ", ".join(key)
    session.execute(f"create or replace temp table wanted as {wanted}")
    there = session.execute(
        "select 1 from duckdb_tables() where schema_name = ? and table_name = ?", [SCHEMA, name]
    ).fetchone()
    kept = (
        f"select kept.* from {SCHEMA}.{name} as kept semi join wanted using ({names}, fingerprint)"  # noqa: S608
    )
    session.execute(
        "create or replace temp table changed as from wanted"
        + (f" anti join {SCHEMA}.{name} using ({names}, fingerprint)" if there else "")
    )
    new = reckon(session.sql(inputs).to_arrow_table())
    session.register("reckoned", new)
    session.execute(
        "create or replace temp table made as select reckoned.*, changed.fingerprint "  # noqa: S608
        f"from reckoned inner join changed using ({names})"
    )
    session.unregister("reckoned")
    return session.sql(f"{kept} union all by name from made" if there else "from made")
