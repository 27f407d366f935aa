"""Log lines of runs."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from store.rows import LogRow
from store.runs import fence
from store.tables import log_lines

MAX_MESSAGE = 8_000


def append(
    connection: Connection,
    run_id: str,
    attempt: int,
    lines: Sequence[tuple[str, str]],
    now: datetime,
) -> None:
    """Keep (level, message) lines. Raises Fenced."""
    fence(connection, run_id, attempt)
    rows = [
        {
            "run_id": run_id,
            "attempt": attempt,
            "at": now,
            "level": level,
            "message": message[:MAX_MESSAGE].replace("\x00", "�"),
        }
        for level, message in lines
    ]
    if rows:
        connection.execute(log_lines.insert(), rows)


def tail(
    connection: Connection, run_id: str, *, after: int | None = None, limit: int = 500
) -> list[LogRow]:
    """Return lines after an id in order, or the last ``limit`` lines."""
    mine = sa.select(log_lines).where(log_lines.c.run_id == run_id).limit(limit)
    if after is not None:
        query = mine.where(log_lines.c.id > after).order_by(log_lines.c.id)
        rows = connection.execute(query).all()
    else:
        rows = connection.execute(mine.order_by(log_lines.c.id.desc())).all()[::-1]
    return [LogRow(r.id, r.attempt, r.at, r.level, r.message) for r in rows]
