"""The queue: claim, lease, renew, reap, and the answer to "why do I wait?"."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import Fenced, NotFound
from domain.run_state import RunState
from domain.schedule import Candidate, Snapshot, choose, decayed
from store import runs as gate
from store.rows import (
    Claim,
    Heartbeat,
    Position,
    QueueView,
    Reaped,
    RunRow,
    SlotRow,
    SlotSpec,
    SlotView,
    WorkerRow,
)
from store.tables import leases, runs, service_beats, slots, users, workers

CLAIM_LOCK = 0x50415254  # "PART": one advisory lock serialises claims on PostgreSQL
MAX_BACKOFF = timedelta(seconds=60)
WORKER_SILENT = timedelta(seconds=60)
_LIVE = leases.c.ended_at.is_(None)


def register_worker(
    connection: Connection,
    *,
    name: str,
    host: str,
    pid: int,
    offered: Sequence[SlotSpec],
    now: datetime,
) -> tuple[SlotRow, ...]:
    """Announce a worker and the slots of its host; return them as stored.

    A slot of that name from before is taken up again, one no longer offered is withdrawn.
    """
    values = {"host": host, "pid": pid, "started_at": now, "seen_at": now}
    known = connection.scalar(sa.select(workers.c.name).where(workers.c.name == name))
    if known is None:
        connection.execute(workers.insert().values(name=name, **values))
    else:
        connection.execute(workers.update().where(workers.c.name == name).values(values))
    connection.execute(slots.update().where(slots.c.worker == name).values(offered=False))
    for slot in offered:
        _offer(connection, name, slot)
    rows = connection.execute(
        sa.select(slots).where(slots.c.worker == name, slots.c.offered).order_by(slots.c.id)
    )
    return tuple(_slot_row(row) for row in rows)


def _offer(connection: Connection, worker: str, slot: SlotSpec) -> None:
    same = sa.and_(
        slots.c.worker == worker, slots.c.kind == slot.kind, slots.c.ordinal == slot.ordinal
    )
    values = {"device_name": slot.device_name, "offered": True}
    if connection.execute(slots.update().where(same).values(values)).rowcount == 0:
        connection.execute(
            slots.insert().values(
                worker=worker, kind=slot.kind, ordinal=slot.ordinal, unconfirmed=False, **values
            )
        )


def _slot_row(row: sa.Row[Any]) -> SlotRow:
    return SlotRow(row.id, row.worker, row.kind, row.ordinal, row.device_name)


def worker_alive(
    connection: Connection, name: str, *, busy_slots: Collection[int], now: datetime
) -> None:
    """Say that a worker lives, and on which slots a process of its is left.

    Slots whose lease was lost become free here and nowhere else.
    """
    connection.execute(workers.update().where(workers.c.name == name).values(seen_at=now))
    connection.execute(
        slots.update()
        .where(slots.c.worker == name, slots.c.unconfirmed, slots.c.id.not_in(busy_slots))
        .values(unconfirmed=False)
    )


def claim(connection: Connection, *, worker: str, now: datetime, lease: timedelta) -> Claim | None:
    """Give the run that is next to a free slot of ``worker``; None if nothing fits.

    lease: how long the claim lives without renewal.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CLAIM_LOCK)))
    free = _free_slots(connection, worker)
    if not free:
        return None
    chosen = choose(_snapshot(connection, free, now))
    if chosen is None:
        return None
    slot = next(s for s in free if s.kind == chosen.slot_kind)
    run = _start(connection, chosen.run_id, worker, now)
    expires_at = now + lease
    connection.execute(
        leases.insert().values(
            run_id=run.id,
            attempt=run.attempt,
            slot_id=slot.id,
            worker=worker,
            owner=run.owner,
            started_at=now,
            expires_at=expires_at,
        )
    )
    return Claim(run, run.attempt, slot, expires_at)


def _free_slots(connection: Connection, worker: str) -> list[SlotRow]:
    held = sa.exists().where(leases.c.slot_id == slots.c.id, _LIVE)
    rows = connection.execute(
        sa.select(slots)
        .where(slots.c.worker == worker, slots.c.offered, ~slots.c.unconfirmed, ~held)
        .order_by(slots.c.id)
    )
    return [_slot_row(row) for row in rows]


def _snapshot(connection: Connection, free: Sequence[SlotRow], now: datetime) -> Snapshot:
    counts: dict[str, int] = {}
    for slot in free:
        counts[slot.kind] = counts.get(slot.kind, 0) + 1
    found = [c for kind in counts for c in _candidates(connection, kind, now)]
    return Snapshot(tuple(found), usage(connection, now), counts)


def _candidates(connection: Connection, kind: str, now: datetime) -> list[Candidate]:
    """Return the earliest run of every owner at the best priority of a slot kind.

    One index look-up an owner: the time does not grow with the queue.
    """
    waiting = sa.and_(
        runs.c.state == RunState.QUEUED, runs.c.slot_kind == kind, runs.c.not_before <= now
    )
    best = connection.scalar(
        sa.select(runs.c.priority).where(waiting).order_by(runs.c.priority.desc()).limit(1)
    )
    if best is None:
        return []
    earliest = (
        sa.select(runs.c.id)
        .where(waiting, runs.c.priority == best, runs.c.owner == users.c.name)
        .order_by(runs.c.id)
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(sa.select(users.c.name, earliest.label("run_id")))
    return [Candidate(row.run_id, row.name, best, kind) for row in rows if row.run_id]


def usage(connection: Connection, now: datetime) -> Mapping[str, float]:
    """Return slot-seconds by owner, decayed to ``now``, running attempts included."""
    used = {
        row.name: decayed(row.usage_seconds, row.usage_at, now)
        for row in connection.execute(sa.select(users).where(users.c.usage_seconds > 0))
    }
    live = connection.execute(sa.select(leases.c.owner, leases.c.started_at).where(_LIVE))
    for row in live:
        seconds = max(0.0, (now - row.started_at).total_seconds())
        used[row.owner] = used.get(row.owner, 0.0) + seconds
    return used


def _start(connection: Connection, run_id: str, worker: str, now: datetime) -> RunRow:
    columns = {
        "attempt": runs.c.attempt + 1,
        "worker": worker,
        "started_at": sa.func.coalesce(runs.c.started_at, sa.literal(now, runs.c.started_at.type)),
        "alive_at": now,
        "advanced_at": now,
    }
    return gate.transition(
        connection,
        run_id,
        to=RunState.RUNNING,
        now=now,
        reason=f"claimed by {worker}",
        actor=worker,
        columns=columns,
    )


def renew(
    connection: Connection, run_id: str, attempt: int, *, now: datetime, lease: timedelta
) -> Heartbeat:
    """Prolong a lease. Raises Fenced when it is no longer held."""
    expires_at = now + lease
    held = sa.and_(leases.c.run_id == run_id, leases.c.attempt == attempt, _LIVE)
    changed = connection.execute(leases.update().where(held).values(expires_at=expires_at))
    if changed.rowcount != 1:
        raise Fenced(run_id, attempt)
    connection.execute(runs.update().where(runs.c.id == run_id).values(alive_at=now))
    state = connection.scalar(sa.select(runs.c.state).where(runs.c.id == run_id))
    return Heartbeat(state == RunState.CANCELLING, expires_at)


def reap(
    connection: Connection, *, now: datetime, lease: timedelta, max_attempts: int
) -> list[Reaped]:
    """End leases that ran out; their runs go back to the queue, or fail at the attempt cap.

    After the database was away (nobody reaped for half a lease) nothing expires until one whole
    lease of service has passed: owners could not have renewed.
    """
    if now - _service_since(connection, now, gap=lease / 2) < lease:
        return []
    query = sa.select(leases).where(_LIVE, leases.c.expires_at < now).order_by(leases.c.id)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    return [
        _reap_one(connection, row, now=now, max_attempts=max_attempts)
        for row in connection.execute(query).all()
    ]


def _service_since(connection: Connection, now: datetime, *, gap: timedelta) -> datetime:
    """Return since when the reaper has run without a gap."""
    mine = service_beats.c.name == "reaper"
    beat = connection.execute(sa.select(service_beats).where(mine)).one_or_none()
    if beat is None:
        connection.execute(service_beats.insert().values(name="reaper", since=now, last_at=now))
        return now
    since: datetime = now if now - beat.last_at > gap else beat.since
    connection.execute(service_beats.update().where(mine).values(since=since, last_at=now))
    return since


def _reap_one(
    connection: Connection, lease: sa.Row[Any], *, now: datetime, max_attempts: int
) -> Reaped:
    connection.execute(slots.update().where(slots.c.id == lease.slot_id).values(unconfirmed=True))
    outcome = _give_back(
        connection,
        lease.run_id,
        lease.attempt,
        now=now,
        reason=f"lease of {lease.worker} lost",
        max_attempts=max_attempts,
    )
    return Reaped(lease.run_id, lease.attempt, outcome)


def recover(
    connection: Connection, *, worker: str, now: datetime, max_attempts: int
) -> list[Reaped]:
    """Give back at once what an earlier process of ``worker`` held; the caller knows it is dead."""
    held = sa.select(leases).where(_LIVE, leases.c.worker == worker).order_by(leases.c.id)
    return [
        _reap_one(connection, row, now=now, max_attempts=max_attempts)
        for row in connection.execute(held).all()
    ]


def requeue(
    connection: Connection,
    run_id: str,
    attempt: int,
    *,
    now: datetime,
    reason: str,
    max_attempts: int,
) -> RunState:
    """Give a run back after its attempt was lost, by the attempt's own supervisor.

    Returns the state it went to. Raises Fenced when the attempt no longer owns the run.
    """
    gate.fence(connection, run_id, attempt)
    return _give_back(
        connection, run_id, attempt, now=now, reason=reason, max_attempts=max_attempts
    )


def hand_back(
    connection: Connection, run_id: str, attempt: int, *, now: datetime, reason: str
) -> None:
    """Return a run to the queue at once and for free: its worker stops. Raises Fenced."""
    gate.fence(connection, run_id, attempt)
    row = gate.get(connection, run_id)
    cancelling = row.state is RunState.CANCELLING
    to = RunState.CANCELLED if cancelling else RunState.QUEUED
    gate.transition(
        connection, run_id, to=to, now=now, reason=reason, attempt=attempt, columns={"worker": None}
    )


def _give_back(
    connection: Connection,
    run_id: str,
    attempt: int,
    *,
    now: datetime,
    reason: str,
    max_attempts: int,
) -> RunState:
    row = gate.get(connection, run_id)
    columns: dict[str, Any] = {}
    if row.state is RunState.CANCELLING:
        to = RunState.CANCELLED
    elif attempt >= max_attempts:
        to = RunState.FAILED
        reason = f"{reason}; attempt {attempt} was the last of {max_attempts}"
        columns["failure"] = {
            "failure_class": "infrastructure",
            "code": "attempts-exhausted",
            "message": reason,
        }
    else:
        to, wait = RunState.QUEUED, backoff(attempt)
        reason = f"{reason}; attempt {attempt + 1} may start in {wait.total_seconds():.0f} s"
        columns |= {"not_before": now + wait, "worker": None}
    gate.transition(connection, run_id, to=to, now=now, reason=reason, columns=columns)
    return to


def backoff(attempt: int) -> timedelta:
    """Return how long to wait after losing ``attempt``: 1 s, doubling, up to a minute."""
    return min(MAX_BACKOFF, timedelta(seconds=math.ldexp(1.0, min(attempt, 20) - 1)))


def position(connection: Connection, run_id: str, now: datetime) -> Position:
    """Say what is ahead of a run, what it waits for, and when it may start.

    Raises NotFound.
    """
    run = gate.get(connection, run_id)
    if run.state is not RunState.QUEUED:
        return Position(0, f"nothing: the run is {run.state}", None, "state")
    ahead = _count_ahead(connection, run)
    offered = _offered(connection, run.slot_kind, now)
    if run.not_before > now:
        return Position(ahead, "its backoff after a lost attempt", run.not_before, "backoff")
    if offered == 0:
        return Position(
            ahead, f"a worker with a {run.slot_kind} slot: none is alive", None, "slots"
        )
    if ahead:
        reason = f"{ahead} run(s) of higher priority or submitted earlier"
    else:
        reason = f"one of {offered} {run.slot_kind} slot(s) to be free"
    start, basis = _forecast(connection, ahead, offered, now)
    return Position(ahead, reason, start, basis)


def _count_ahead(connection: Connection, run: RunRow) -> int:
    earlier = sa.or_(
        runs.c.priority > run.priority,
        sa.and_(runs.c.priority == run.priority, runs.c.id < run.id),
    )
    return int(
        connection.scalar(
            sa.select(sa.func.count())
            .select_from(runs)
            .where(runs.c.state == RunState.QUEUED, runs.c.slot_kind == run.slot_kind, earlier)
        )
        or 0
    )


def _offered(connection: Connection, kind: str, now: datetime) -> int:
    return int(
        connection.scalar(
            sa.select(sa.func.count())
            .select_from(slots.join(workers, workers.c.name == slots.c.worker))
            .where(slots.c.kind == kind, slots.c.offered, workers.c.seen_at > now - WORKER_SILENT)
        )
        or 0
    )


def _forecast(
    connection: Connection, ahead: int, offered: int, now: datetime
) -> tuple[datetime | None, str]:
    rows = connection.execute(
        sa.select(runs.c.started_at, runs.c.finished_at)
        .where(runs.c.state == RunState.SUCCEEDED)
        .order_by(runs.c.id.desc())
        .limit(50)
    )
    took = sorted((row.finished_at - row.started_at).total_seconds() for row in rows)
    if not took:
        return None, "no run has finished yet"
    median = took[len(took) // 2]
    wait = median * (ahead + 1) / offered
    return now + timedelta(seconds=wait), f"median of the last {len(took)} runs, {median:.0f} s"


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
    views = [slot for worker in all_workers(connection) for slot in worker.slots]

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


def all_workers(connection: Connection) -> tuple[WorkerRow, ...]:
    """Return every worker with its offered slots and what occupies them."""
    rows = connection.execute(
        sa.select(slots, leases.c.run_id)
        .select_from(slots.outerjoin(leases, sa.and_(leases.c.slot_id == slots.c.id, _LIVE)))
        .where(slots.c.offered)
        .order_by(slots.c.id)
    )
    by_worker: dict[str, list[SlotView]] = {}
    for row in rows:
        view = SlotView(row.kind, row.ordinal, row.device_name, row.run_id, row.unconfirmed)
        by_worker.setdefault(row.worker, []).append(view)
    return tuple(
        WorkerRow(
            row.name,
            row.host,
            row.pid,
            row.started_at,
            row.seen_at,
            tuple(by_worker.get(row.name, ())),
        )
        for row in connection.execute(sa.select(workers).order_by(workers.c.name))
    )


def lease_of(connection: Connection, run_id: str, attempt: int) -> datetime:
    """Return when a live lease runs out. Raises NotFound."""
    found: datetime | None = connection.scalar(
        sa.select(leases.c.expires_at).where(
            leases.c.run_id == run_id, leases.c.attempt == attempt, _LIVE
        )
    )
    if found is None:
        raise NotFound("lease of run", run_id)
    return found
