"""Runs as answers: the stored row, what it waits for now, and how long it took."""

from collections.abc import Sequence

from sqlalchemy import Connection

from api.models import Run, WaitAnswer
from store import running_time, runs, waits
from store.engine import database_now
from store.rows import RunRow


def shown(connection: Connection, rows: Sequence[RunRow]) -> tuple[Run, ...]:
    """Return the answers for stored runs."""
    now = database_now(connection)
    held = waits.waits(connection, rows, now)
    took = running_time.took(connection, [row.id for row in rows if row.started_at], now)
    return tuple(
        Run.model_validate(row).model_copy(
            update={
                "waits": WaitAnswer.model_validate(held[row.id]) if row.id in held else None,
                "took_seconds": took.get(row.id),
            }
        )
        for row in rows
    )


def one(connection: Connection, run_id: str) -> Run:
    """Return a run. Raises NotFound."""
    return shown(connection, [runs.get(connection, run_id)])[0]
