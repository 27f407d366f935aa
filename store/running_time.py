"""How long runs took: the one definition that every page, command and forecast uses.

A run takes the time that its attempts held their slots, added up, on the database's clock. What
lies between two attempts, or before the first, is waiting.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from store.tables import leases


def took(connection: Connection, run_ids: Collection[str], now: datetime) -> Mapping[str, float]:
    """Return the seconds of each run that was started; a live attempt counts up to ``now``."""
    if not run_ids:
        return {}
    query = sa.select(leases.c.run_id, leases.c.started_at, leases.c.ended_at).where(
        leases.c.run_id.in_(run_ids), leases.c.rank == 0
    )
    seconds: dict[str, float] = {}
    for row in connection.execute(query):
        spent = ((row.ended_at or now) - row.started_at).total_seconds()
        seconds[row.run_id] = seconds.get(row.run_id, 0.0) + max(0.0, spent)
    return seconds
