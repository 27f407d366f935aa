"""Where a run stands, what it waits for, when it may start; and the queue in numbers."""

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import schedule
from domain.run_state import RunState
from domain.schedule import Needs, Plan, Snapshot, Waiting, Why
from store import fleet, snapshots, waits
from store import runs as gate
from store.rows import Position, QueueView
from store.tables import families, runs

UNKNOWN_SECONDS = 3600.0
"""How long a run is taken to be when nothing at all is known."""


def position(connection: Connection, run_id: str, now: datetime) -> Position:
    """Say what is ahead of a run, which rule or resource holds it, and when it may start.

    Raises NotFound.
    """
    run = gate.get(connection, run_id)
    if run.state is not RunState.QUEUED:
        return Position(0, "state", f"nothing: the run is {run.state}")
    wait = waits.wait_of(connection, run, now)
    if wait is not None and wait.why == "backoff":
        return Position(0, wait.why, wait.waits_for, run.not_before, "the end of the backoff")
    if wait is not None and wait.why in ("paused", "after"):
        return Position(0, wait.why, wait.waits_for)
    seen = snapshots.snapshot(connection, now, whole=True)
    mine = next((waiting for waiting in seen.waiting if waiting.run_id == run_id), None)
    if mine is None:  # on PostgreSQL it may have started since it was read
        return Position(0, "state", "nothing: it was taken up at this moment")
    decided = schedule.plan(_as_claimed(seen, mine))
    start, basis = _forecast(connection, seen, decided, mine)
    ahead = _ahead(seen, mine)
    why = decided.why[run_id]
    return Position(ahead, why, _told(why, mine, seen, decided, ahead), start, basis)


def _as_claimed(seen: Snapshot, mine: Waiting) -> Snapshot:
    """Return what a claim is decided on, and the run that is asked about."""
    first: dict[tuple[str, Needs], Waiting] = {}
    for run in sorted(seen.waiting, key=lambda run: (-run.priority, run.run_id)):
        first.setdefault((run.owner, run.needs), run)
    return replace(seen, waiting=tuple({*first.values(), mine}))


def _ahead(seen: Snapshot, mine: Waiting) -> int:
    """How many runs of its queue are expected to start before it."""
    ahead = 0
    for other in schedule.in_turn(seen, unknown=UNKNOWN_SECONDS):
        if other.run_id == mine.run_id:
            break
        same = (other.needs.queue, other.needs.kind) == (mine.needs.queue, mine.needs.kind)
        ahead += same
    return ahead


def _told(why: Why, mine: Waiting, seen: Snapshot, decided: Plan, ahead: int) -> str:
    account = seen.accounts[mine.owner]
    match why:
        case "starts":
            return "the next look of a worker: it starts now"
        case "no-worker" | "impossible" | "data-missing" | "set-aside":
            return waits.nowhere(why, mine.needs)
        case "beyond-quota":
            return (
                f"a larger quota: {account.most_running} slots at once is that of {mine.owner}, "
                f"and it asks for {mine.needs.slots}"
            )
        case "running-quota":
            return (
                f"a run of {mine.owner} to end: {account.most_running} slots at once is the quota"
            )
        case "week-quota":
            most = (account.most_week or 0.0) / 3600
            return f"the quota of {mine.owner}: {most:g} slot-hours in seven days are used up"
        case "reserved":
            return f"slots that are kept for run {_kept_for(mine, decided)}, which is before it"
        case "slots":
            before = f"; {ahead} run(s) come before it" if ahead else ""
            return f"{waits.described(mine.needs)} to be free{before}"


def _kept_for(mine: Waiting, decided: Plan) -> str:
    """Name the first whose slots it could use, or else whose cores."""
    others = [r for r in decided.reservations if r.run_id != mine.run_id]
    same = (mine.needs.queue, mine.needs.kind)
    alike = [r for r in others if (r.needs.queue, r.needs.kind) == same]
    return (alike or others)[0].run_id


def _forecast(
    connection: Connection, seen: Snapshot, decided: Plan, mine: Waiting
) -> tuple[datetime | None, str]:
    if decided.why[mine.run_id] in ("no-worker", "impossible", "data-missing"):
        return None, "no host could run it"
    if decided.why[mine.run_id] == "set-aside":
        return None, "somebody has to act first"
    if decided.why[mine.run_id] in ("beyond-quota", "running-quota", "week-quota"):
        return None, "a quota, not the slots, holds it"
    unknown, basis = _typical(connection)
    at = schedule.forecast(seen, mine.run_id, unknown=unknown)
    if mine.seconds is not None:
        basis = f"runs like it take {mine.seconds:.0f} s"
    return at, f"{basis}; if nothing else is submitted"


def _typical(connection: Connection) -> tuple[float, str]:
    """Return how long a run of no known family takes, and what that rests on."""
    rows = connection.execute(sa.select(families.c.seconds, families.c.runs)).all()
    count = sum(row.runs for row in rows)
    if not count:
        return UNKNOWN_SECONDS, "no run has finished yet: an hour a run is assumed"
    mean = sum(row.seconds * row.runs for row in rows) / count
    return mean, f"the {count} runs that have ended took {mean:.0f} s on average"


def queue(connection: Connection) -> QueueView:
    """Return the queue in numbers."""
    states = {
        row.state: row.total
        for row in connection.execute(
            sa.select(runs.c.state, sa.func.count().label("total"))
            .where(runs.c.state.in_([RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING]))
            .group_by(runs.c.state)
        )
    }
    views = [slot for worker in fleet.all_workers(connection) for slot in worker.slots]

    def total(kind: str, *, busy: bool) -> int:
        return sum(1 for s in views if s.kind == kind and (not busy or s.run_id or s.unconfirmed))

    return QueueView(
        queued=states.get(RunState.QUEUED, 0),
        running=states.get(RunState.RUNNING, 0),
        cancelling=states.get(RunState.CANCELLING, 0),
        cpu_slots=total("cpu", busy=False),
        cpu_busy=total("cpu", busy=True),
        gpu_slots=total("gpu", busy=False),
        gpu_busy=total("gpu", busy=True),
    )
