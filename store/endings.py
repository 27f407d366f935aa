"""The last line of an attempt's log: why it ended. Written with the change of state itself.

So it is there whoever ended it: its supervisor, the reaper after its worker died, or a person.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.run_state import RunState
from domain.spans import span
from store import running_time
from store.rows import RunRow
from store.tables import log_lines, run_events

_LINE = log_lines.insert().inline()
_ASKED = (
    sa.select(run_events.c.actor)
    .where(run_events.c.run_id == sa.bindparam("run_id"))
    .where(run_events.c.target == RunState.CANCELLING)
    .order_by(run_events.c.id.desc())
    .limit(1)
)


def write(
    connection: Connection,
    before: RunRow,
    after: RunRow,
    *,
    reason: str,
    now: datetime,
) -> None:
    """Write why an attempt, or a run that waited for one, came to its end."""
    level, message = _told(connection, before, after, reason, now)
    say(connection, after, message, level=level, now=now)


def say(
    connection: Connection, run: RunRow, message: str, *, now: datetime, level: str = "info"
) -> None:
    """Write a line into a run's log, by whoever holds its row."""
    line = {"run_id": run.id, "attempt": run.attempt, "at": now, "level": level, "message": message}
    connection.execute(_LINE, line)


def _told(
    connection: Connection, before: RunRow, after: RunRow, reason: str, now: datetime
) -> tuple[str, str]:
    match after.state:
        case RunState.SUCCEEDED:
            return "info", f"succeeded{_after(connection, after, now)}"
        case RunState.FAILED:
            return "error", f"failed{_after(connection, after, now)}: {_failure(after, reason)}"
        case RunState.CANCELLED if before.state is RunState.CANCELLING:
            actor = connection.scalar(_ASKED, {"run_id": after.id})
            return "warning", f"cancelled by {actor or 'the lab'}{_after(connection, after, now)}"
        case RunState.CANCELLED:
            return "warning", reason
        case _:
            level = "warning" if after.losses > before.losses else "info"
            return level, f"attempt {before.attempt} ended: {reason}"


def _failure(run: RunRow, reason: str) -> str:
    failure = run.failure or {}
    message = failure.get("message") or reason
    kind = failure.get("failure_class") or failure.get("code")
    return f"{kind}: {message}" if kind else str(message)


def _after(connection: Connection, run: RunRow, now: datetime) -> str:
    if run.attempt == 0:
        return ""
    seconds = running_time.took(connection, [run.id], now).get(run.id, 0.0)
    many = f", in {run.attempt} attempts" if run.attempt > 1 else ""
    return f" after {span(seconds)}{many}"
