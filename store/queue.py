"""The queue's writes: claim, lease, renew, reap, give back, hold.

Who is next is decided in :mod:`domain.schedule`; here a plan is carried out.
"""

import math
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import Fenced, InvalidTransition, LabError
from domain.run_state import RunState
from domain.schedule import Plan, Start, plan
from store import endings, fleet
from store import runs as gate
from store.fleet import LIVE
from store.rows import Claim, Heartbeat, Look, Reaped, RunRow
from store.snapshots import snapshot
from store.tables import leases, runs, service_beats, slots

CLAIM_LOCK = 0x50415254  # "PART": one advisory lock serialises claims on PostgreSQL
_CLAIM_LOCK = sa.select(
    sa.func.clock_timestamp().label("before"),
    sa.func.pg_advisory_xact_lock(CLAIM_LOCK),
    sa.func.clock_timestamp().label("after"),
)
_LEASE = leases.insert().inline()
_ATTEMPTS = sa.select(runs.c.id, runs.c.attempt).where(
    runs.c.id.in_(sa.bindparam("runs", expanding=True))
)
_ASK_TO_GIVE_WAY = (
    leases.update()
    .where(LIVE, leases.c.run_id.in_(sa.bindparam("runs", expanding=True)), ~leases.c.yielding)
    .values(yielding=True)
    .returning(leases.c.run_id)
)
_BOUND = sa.select(slots).where(slots.c.id.in_(sa.bindparam("slots", expanding=True)))
Ending = Literal["lost", "handed-back", "gave-way"]
Listener = Callable[[str, int, Exception], None]
"""Hears of an attempt of a run that could not be given back, and why."""
MAX_BACKOFF = timedelta(seconds=60)


def look(connection: Connection, *, worker: str, now: datetime) -> Look:
    """Plan the whole lab; return what starts on ``worker``, and who was asked to give way.

    Runs that must give way are asked to, wherever they run. What is to start is :func:`claim`'s.
    """
    decided = _decide(connection, worker, now + _take_the_claim_lock(connection))
    starts = [start for start in decided.starts if start.worker == worker]
    found = connection.execute(_ATTEMPTS, {"runs": [start.run_id for start in starts]})
    attempts = {row.id: row.attempt + 1 for row in found}
    yielding = _ask_to_give_way(connection, decided.yields)
    return Look(tuple((start, attempts[start.run_id]) for start in starts), yielding)


def claim(
    connection: Connection,
    *,
    worker: str,
    now: datetime,
    lease: timedelta,
    only: tuple[str, int] | None = None,
) -> Claim | None:
    """Give ``worker`` the run that is next on its slots; None if none is.

    lease: how long the claim lives without renewal.
    only: the run and attempt that it may be; None if the plan does not start that run here.

    Raises Fenced when it would be another attempt of that run.
    """
    now += _take_the_claim_lock(connection)
    decided = _decide(connection, worker, now)
    start = next((s for s in decided.starts if s.worker == worker and _may_be(s, only)), None)
    _ask_to_give_way(connection, decided.yields, beside=start)
    claimed = None if start is None else _claim(connection, start, now, lease)
    if claimed is not None and only is not None and claimed.attempt != only[1]:
        raise Fenced(*only)
    return claimed


def _may_be(start: Start, only: tuple[str, int] | None) -> bool:
    return only is None or start.run_id == only[0]


def _decide(connection: Connection, worker: str, now: datetime) -> Plan:
    decided = plan(snapshot(connection, now, worker=worker), worker=worker)
    _keep_turns(connection, {r.run_id for r in decided.reservations})
    return decided


def _ask_to_give_way(
    connection: Connection, yields: Collection[str], *, beside: Start | None = None
) -> tuple[str, ...]:
    """Ask attempts to give way; return those that were not asked before.

    beside: what this transaction starts. Runs are taken before leases, all at once, as in all
    transactions.
    """
    if not yields:
        return ()
    gate.take(connection, [*yields, *([beside.run_id] if beside else [])])
    asked = connection.scalars(_ASK_TO_GIVE_WAY, {"runs": list(yields)})
    return tuple(dict.fromkeys(asked))


def _take_the_claim_lock(connection: Connection) -> timedelta:
    """Let nobody else claim in this transaction's time; return the whole seconds it waited.

    A claimer that froze keeps others waiting: a lease that counts from before would be shorter.
    """
    if connection.dialect.name != "postgresql":
        return timedelta(0)
    before, _, after = connection.execute(_CLAIM_LOCK).one()
    return timedelta(seconds=(after - before) // timedelta(seconds=1))


def _keep_turns(connection: Connection, reserved: Collection[str]) -> None:
    """Remember for whom slots are kept, until they start: their ranks would change before."""
    new = sa.and_(runs.c.id.in_(reserved), ~runs.c.reserved, runs.c.state == RunState.QUEUED)
    if reserved and (found := connection.scalars(sa.select(runs.c.id).where(new)).all()):
        connection.execute(runs.update().where(new, runs.c.id.in_(found)).values(reserved=True))


def _claim(connection: Connection, start: Start, now: datetime, lease: timedelta) -> Claim:
    run = gate.start(connection, start.run_id, worker=start.worker, now=now)
    expires_at = now + lease
    connection.execute(
        _LEASE,
        [
            {
                "run_id": run.id,
                "attempt": run.attempt,
                "rank": rank,
                "slot_id": slot,
                "worker": start.worker,
                "owner": run.owner,
                "started_at": now,
                "expires_at": expires_at,
                "backfilled": start.backfilled,
                "yielding": False,
            }
            for rank, slot in enumerate(start.slots)
        ],
    )
    rows = connection.execute(_BOUND, {"slots": start.slots}).all()
    bound = {row.id: fleet.slot_row(row) for row in rows}
    return Claim(run, run.attempt, tuple(bound[slot] for slot in start.slots), expires_at)


def renew(
    connection: Connection, run_id: str, attempt: int, *, now: datetime, lease: timedelta
) -> Heartbeat:
    """Prolong a lease. Raises Fenced when it is no longer held."""
    gate.fence(connection, run_id, attempt)  # runs before leases, as all transactions take them
    expires_at = now + lease
    held = sa.and_(leases.c.run_id == run_id, leases.c.attempt == attempt, LIVE)
    changed = connection.execute(leases.update().where(held).values(expires_at=expires_at))
    if changed.rowcount < 1:
        raise Fenced(run_id, attempt)
    connection.execute(runs.update().where(runs.c.id == run_id).values(alive_at=now))
    row = connection.execute(
        sa.select(runs.c.state, runs.c.held, leases.c.yielding)
        .select_from(runs.join(leases, leases.c.run_id == runs.c.id))
        .where(held, leases.c.rank == 0)
    ).one()
    return Heartbeat(
        cancel_requested=row.state == RunState.CANCELLING,
        pause_requested=row.held,
        yield_requested=row.yielding,
        expires_at=expires_at,
    )


# -- what is lost -----------------------------------------------------------------------------


def _unheard(_run_id: str, _attempt: int, _error: Exception) -> None:
    """Leave it to the checks, which name every lease that stays overdue."""


def reap(
    connection: Connection,
    *,
    now: datetime,
    lease: timedelta,
    max_attempts: int,
    failed: Listener = _unheard,
) -> list[Reaped]:
    """End leases that ran out; their runs go back to the queue, or fail at the cap of losses.

    After the database was away (nobody reaped for half a lease) nothing expires until one whole
    lease of service has passed: owners could not have renewed.

    failed: hears of each lease that could not be ended. It undoes none of the others; the next
    call tries it again.
    """
    if now - _service_since(connection, now, gap=lease / 2) < lease:
        return []
    return _reap_all(
        connection, leases.c.expires_at < now, now=now, max_attempts=max_attempts, failed=failed
    )


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


def _reap_all(
    connection: Connection,
    which: sa.ColumnElement[bool],
    *,
    now: datetime,
    max_attempts: int,
    failed: Listener,
) -> list[Reaped]:
    """Give back what live leases hold, each for itself, in the order that users are charged in."""
    held = sa.and_(LIVE, leases.c.rank == 0, which)
    query = sa.select(leases).where(held).order_by(leases.c.owner, leases.c.id)
    found = []
    for row in connection.execute(query).all():
        still = sa.select(leases.c.id).where(held, leases.c.id == row.id)
        try:
            reaped = _reap_one(connection, row, still, now=now, max_attempts=max_attempts)
        except (LabError, SQLAlchemyError) as error:
            if connection.invalidated:
                raise
            failed(row.run_id, row.attempt, error)
        else:
            found += reaped
    return found


def _reap_one(
    connection: Connection,
    lease: sa.Row[Any],
    still: sa.Select[int],
    *,
    now: datetime,
    max_attempts: int,
) -> list[Reaped]:
    """Give back what a lease holds, or nothing if it is in use or, by now, not lost any more.

    Runs that others hold are not waited for: this transaction has charged users already, whom
    others take after their runs.
    """
    with connection.begin_nested() as kept:
        if not gate.take_free(connection, lease.run_id) or connection.scalar(still) is None:
            kept.rollback()
            return []
        mine = sa.and_(leases.c.run_id == lease.run_id, leases.c.attempt == lease.attempt)
        bound = sa.select(leases.c.slot_id).where(mine)
        connection.execute(slots.update().where(slots.c.id.in_(bound)).values(unconfirmed=True))
        outcome = _give_back(
            connection,
            lease.run_id,
            lease.attempt,
            now=now,
            reason=f"lease of {lease.worker} lost",
            max_attempts=max_attempts,
        )
    return [Reaped(lease.run_id, lease.attempt, outcome)]


def recover(
    connection: Connection,
    *,
    worker: str,
    now: datetime,
    max_attempts: int,
    failed: Listener = _unheard,
) -> list[Reaped]:
    """Give back at once what an earlier process of ``worker`` held; the caller knows it is dead.

    failed: hears of each lease that could not be ended; it is left to :func:`reap`.
    """
    mine = leases.c.worker == worker
    held = connection.scalars(sa.select(leases.c.run_id).where(LIVE, mine)).all()
    gate.take_line(connection, held)  # waits, while it holds nothing else, for who is at them
    return _reap_all(connection, mine, now=now, max_attempts=max_attempts, failed=failed)


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
    losses = row.losses + 1
    columns: dict[str, Any] = {"losses": losses}
    if row.state is RunState.CANCELLING:
        to = RunState.CANCELLED
    elif losses >= max_attempts:
        to = RunState.FAILED
        reason = f"{reason}; attempt {attempt} was lost, the last of {max_attempts}"
        columns["failure"] = {
            "failure_class": "infrastructure",
            "code": "attempts-exhausted",
            "message": reason,
        }
    else:
        to, wait = RunState.QUEUED, backoff(losses)
        reason = f"{reason}; attempt {attempt + 1} may start in {wait.total_seconds():.0f} s"
        columns |= {"not_before": now + wait, "worker": None}
    gate.transition(connection, run_id, to=to, now=now, reason=reason, columns=columns)
    for slot in _call_ending(connection, run_id, attempt, "lost"):
        fleet.suspect(connection, slot)
    return to


def _call_ending(connection: Connection, run_id: str, attempt: int, ending: Ending) -> list[int]:
    """Keep how an attempt ended, apart from the state its run went to; return its slots.

    What was cancelled stays so, whatever else befell it: nothing of it goes on.
    """
    held = sa.and_(leases.c.run_id == run_id, leases.c.attempt == attempt)
    cancelled = leases.c.outcome == RunState.CANCELLED
    connection.execute(leases.update().where(held, ~cancelled).values(outcome=ending))
    return list(connection.scalars(sa.select(leases.c.slot_id).where(held)))


def backoff(losses: int) -> timedelta:
    """Return how long to wait after that many losses: 1 s, doubling, up to a minute."""
    return min(MAX_BACKOFF, timedelta(seconds=math.ldexp(1.0, min(losses, 20) - 1)))


# -- what is given back on purpose ------------------------------------------------------------


def hand_back(
    connection: Connection,
    run_id: str,
    attempt: int,
    *,
    now: datetime,
    reason: str,
    ending: Ending = "handed-back",
) -> None:
    """Return a run to the queue at once and for free, after a checkpoint. Raises Fenced.

    ending: why: its worker stops (`handed-back`), or it makes room (`gave-way`).
    """
    gate.fence(connection, run_id, attempt)
    row = gate.get(connection, run_id)
    cancelling = row.state is RunState.CANCELLING
    to = RunState.CANCELLED if cancelling else RunState.QUEUED
    gate.transition(
        connection,
        run_id,
        to=to,
        now=now,
        reason=reason,
        attempt=attempt,
        columns={"worker": None},
    )
    _call_ending(connection, run_id, attempt, ending)


def hold(connection: Connection, run_id: str, *, held: bool, now: datetime, actor: str) -> RunRow:
    """Pause a run, or let it go on: a running one takes a checkpoint and returns to the queue.

    Twice is no error. Raises NotFound, InvalidTransition when it is over or being cancelled.
    """
    row = gate.locked(connection, run_id)
    if row.state not in (RunState.QUEUED, RunState.RUNNING):
        raise InvalidTransition(run_id, row.state, RunState.QUEUED)
    if row.held == held:
        return row
    connection.execute(
        runs.update().where(runs.c.id == run_id).values(held=held, version=row.version + 1)
    )
    gate.note(
        connection,
        run_id,
        row.state,
        row.state,
        row.attempt,
        now=now,
        reason="paused" if held else "goes on",
        actor=actor,
    )
    endings.say(connection, row, f"{'paused' if held else 'resumed'} by {actor}", now=now)
    return gate.get(connection, run_id)
