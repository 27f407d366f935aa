"""Where a run stands, what it waits for, when it may start; and the queue in numbers."""

from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import schedule
from domain.forecast import UNKNOWN_SECONDS, WORDS, WaitForecast, main_source, ranged
from domain.run_state import RunState
from domain.schedule import Needs, Plan, Running, Snapshot, Waiting, Why
from store import estimates, fleet, snapshots, waits
from store import runs as gate
from store.rows import Position, QueueView
from store.tables import runs


def position(connection: Connection, run_id: str, now: datetime) -> Position:
    """Say what is ahead of a run, which rule or resource holds it, and when it may start.

    Raises NotFound.
    """
    run = gate.get(connection, run_id)
    if run.state is not RunState.QUEUED:
        return Position(0, "state", f"nothing: the run is {run.state}")
    hold = waits.wait_of(connection, run, now)
    if hold is not None and hold.why == "backoff":
        return Position(0, hold.why, hold.waits_for, run.not_before, "the end of the backoff")
    if hold is not None and hold.why in ("paused", "after"):
        return Position(0, hold.why, hold.waits_for)
    seen = snapshots.snapshot(connection, now, whole=True)
    mine = next((waiting for waiting in seen.waiting if waiting.run_id == run_id), None)
    if mine is None:  # on PostgreSQL it may have started since it was read
        return Position(0, "state", "nothing: it was taken up at this moment")
    decided = schedule.plan(_as_claimed(seen, mine))
    wait, basis = _forecast(connection, seen, decided, mine)
    ahead = len(_waiting_before(seen, mine))
    why = decided.why[run_id]
    told = Position(ahead, why, _told(why, mine, seen, decided, ahead), basis=basis)
    return told if wait is None else _with_range(told, wait, now)


def _with_range(position: Position, wait: WaitForecast, now: datetime) -> Position:
    return replace(
        position,
        estimated_start=now + timedelta(seconds=wait.seconds),
        earliest_start=now + timedelta(seconds=wait.low),
        latest_start=now + timedelta(seconds=wait.high),
        source=wait.source,
    )


def _as_claimed(seen: Snapshot, mine: Waiting) -> Snapshot:
    """Return what a claim is decided on, and the run that is asked about."""
    first: dict[tuple[str, Needs], Waiting] = {}
    for run in sorted(seen.waiting, key=lambda run: (-run.priority, run.run_id)):
        first.setdefault((run.owner, run.needs), run)
    return replace(seen, waiting=tuple({*first.values(), mine}))


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
) -> tuple[WaitForecast | None, str]:
    if decided.why[mine.run_id] in ("no-worker", "impossible", "data-missing"):
        return None, "no host could run it"
    if decided.why[mine.run_id] == "set-aside":
        return None, "somebody has to act first"
    if decided.why[mine.run_id] in ("beyond-quota", "running-quota", "week-quota"):
        return None, "a quota, not the slots, holds it"
    if decided.why[mine.run_id] == "starts":
        return WaitForecast(0.0, 0.0, 0.0, None), "a slot is free"
    by_run = estimates.estimates(connection, seen)
    timed = estimates.timed(seen, by_run)
    at = schedule.forecast(timed, mine.run_id, unknown=UNKNOWN_SECONDS)
    if at is None:
        return None, "no host could run it"
    rests_on = [by_run[run.run_id].source for run in _before(timed, mine)]
    if not rests_on:
        return None, "no forecast: what holds it is not in its queue"
    wait = ranged((at - seen.now).total_seconds(), rests_on)
    if wait is None:
        return None, "no forecast: no run like those before it has ended yet"
    return wait, f"from {WORDS[main_source(rests_on)]}; eight starts in ten are in the range"


def _before(seen: Snapshot, mine: Waiting) -> list[Running | Waiting]:
    """Return what runs in its queue, and what is expected to start there before it."""
    queue_of = {slot.id: (slot.queue, slot.kind) for host in seen.hosts for slot in host.slots}
    same = (mine.needs.queue, mine.needs.kind)
    before: list[Running | Waiting] = [
        run for run in seen.running if any(queue_of.get(slot) == same for slot in run.slots)
    ]
    return before + _waiting_before(seen, mine)


def _waiting_before(seen: Snapshot, mine: Waiting) -> list[Waiting]:
    before = []
    for other in schedule.in_turn(seen, unknown=UNKNOWN_SECONDS):
        if other.run_id == mine.run_id:
            break
        if (other.needs.queue, other.needs.kind) == (mine.needs.queue, mine.needs.kind):
            before.append(other)
    return before


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
