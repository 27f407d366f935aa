"""The append-only history of runs."""

import sqlalchemy as sa
from sqlalchemy import Connection

from store.rows import EventRow
from store.tables import run_events


def events(
    connection: Connection, run_id: str, *, after: int = 0, limit: int = 500
) -> list[EventRow]:
    """Return the transitions of a run, oldest first."""
    rows = connection.execute(
        sa.select(run_events)
        .where(run_events.c.run_id == run_id, run_events.c.id > after)
        .order_by(run_events.c.id)
        .limit(limit)
    )
    return [EventRow(r.id, r.at, r.source, r.target, r.attempt, r.reason, r.actor) for r in rows]
