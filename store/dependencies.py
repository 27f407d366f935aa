"""Which runs a queued run still follows."""

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from store.tables import run_dependencies


def followed(connection: Connection, run_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return, for each of these runs that follows others, the ones that are still to succeed."""
    rows = connection.execute(
        sa.select(run_dependencies.c.run_id, run_dependencies.c.after_id)
        .where(run_dependencies.c.run_id.in_(run_ids))
        .order_by(run_dependencies.c.after_id)
    )
    result: dict[str, tuple[str, ...]] = {}
    for row in rows:
        result[row.run_id] = (*result.get(row.run_id, ()), row.after_id)
    return result
