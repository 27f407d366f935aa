"""What the planner is shown: the queue, its hosts and its people at one moment."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.run_state import RunState
from domain.schedule import LEAST_CHARGE, Account, Host, Needs, Running, Slot, Snapshot, Waiting
from domain.schedule import decayed as decay
from store.fleet import LIVE, WORKER_SILENT
from store.tables import UtcDateTime, families, groups, leases, needs, runs, slots, users, workers

WEEK = timedelta(days=7)


def is_ready(now: datetime | sa.BindParameter[datetime]) -> sa.ColumnElement[bool]:
    """Whether nothing but the queue holds a run back."""
    # Spelt out, not sent as a parameter: a plan for whatever state cannot use the queue's index.
    queued: sa.ColumnElement[str] = sa.literal_column(f"'{RunState.QUEUED}'")
    return sa.and_(
        runs.c.state == queued,
        runs.c.not_before <= now,
        ~runs.c.held,
        runs.c.blockers == 0,
    )


def snapshot(
    connection: Connection, now: datetime, *, whole: bool = False, worker: str = ""
) -> Snapshot:
    """Return what a plan is made from.

    whole: every run that is ready, for a forecast; otherwise, of every owner and needs, the first
    of the best priority: one look-up each, so that a claim's time does not grow with the queue.
    worker: the one that asks, which lives.
    """
    attempts = _running(connection)
    hosts, shut = hosts_of(connection, now, worker)
    held = {slot for attempt in attempts for slot in attempt.slots}
    people = accounts(connection, now, attempts)
    return Snapshot(
        now=now,
        hosts=hosts,
        waiting=tuple(_ready(connection, now) if whole else _heads(connection, now)),
        running=attempts,
        accounts=people,
        groups=_shares(connection, people),
        lost_slots=shut - held,
    )


# Statements are built once: that takes longer than to run them.
_now = sa.bindparam("now", type_=UtcDateTime)
_FIRST_OF_EACH = sa.select(
    sa.select(runs.c.id)
    .where(is_ready(_now), runs.c.needs_id == needs.c.id, runs.c.owner == users.c.name)
    .order_by(runs.c.priority.desc(), runs.c.id)
    .limit(1)
    .correlate(needs, users)
    .scalar_subquery()
).select_from(needs.join(users, sa.true()))
_expected = sa.func.coalesce(runs.c.expected_seconds, families.c.seconds).label("seconds")
_WAITING = sa.select(
    runs.c.id,
    runs.c.owner,
    runs.c.priority,
    runs.c.preemptible,
    runs.c.reserved,
    _expected,
    needs.c.queue,
    needs.c.kind,
    needs.c.slots,
    needs.c.memory,
    needs.c.model,
    needs.c.cores,
    needs.c.data,
).select_from(
    runs.join(needs, needs.c.id == runs.c.needs_id).outerjoin(
        families, families.c.name == runs.c.family
    )
)
_READY = _WAITING.where(is_ready(_now))
_NAMED = _WAITING.where(runs.c.id.in_(sa.bindparam("ids", expanding=True)))
_ATTEMPTS = (
    sa.select(
        leases.c.run_id,
        leases.c.owner,
        leases.c.slot_id,
        leases.c.started_at,
        leases.c.backfilled,
        leases.c.yielding,
        runs.c.priority,
        runs.c.preemptible,
        runs.c.state,
        needs.c.cores,
        needs.c.data,
        _expected,
    )
    .select_from(
        leases.join(runs, runs.c.id == leases.c.run_id)
        .join(needs, needs.c.id == runs.c.needs_id)
        .outerjoin(families, families.c.name == runs.c.family)
    )
    .where(LIVE)
    .order_by(leases.c.run_id, leases.c.rank)
)
_OFFERED = (
    sa.select(
        slots.c.id,
        slots.c.worker,
        slots.c.queue,
        slots.c.kind,
        slots.c.memory,
        slots.c.device_name,
        slots.c.unconfirmed,
        slots.c.quarantine,
        slots.c.foreign_use,
        workers.c.cores,
        workers.c.datasets,
    )
    .select_from(slots.join(workers, workers.c.name == slots.c.worker))
    .where(
        slots.c.offered,
        ~workers.c.draining,
        sa.or_(
            workers.c.seen_at > sa.bindparam("silent_since", type_=UtcDateTime),
            workers.c.name == sa.bindparam("asking"),
        ),
    )
    .order_by(slots.c.id)
)
_PEOPLE = sa.select(
    users.c.name,
    users.c.usage_seconds,
    users.c.usage_at,
    users.c.share,
    users.c.group_name,
    users.c.most_running,
    users.c.most_hours,
)
_GROUPS = sa.select(groups.c.name, groups.c.share)


def needs_of(row: Any) -> Needs:  # noqa: ANN401 - a row of ``needs``
    """Turn a row of ``needs`` into a value."""
    return Needs(row.queue, row.kind, row.slots, row.memory, row.model, row.cores, row.data)


def _waiting(row: Any) -> Waiting:  # noqa: ANN401 - a row of the columns above
    wants = needs_of(row)
    return Waiting(
        row.id, row.owner, wants, row.priority, row.seconds, row.preemptible, row.reserved
    )


def _ready(connection: Connection, now: datetime) -> Sequence[Waiting]:
    return [_waiting(row) for row in connection.execute(_READY, {"now": now}).all()]


def _heads(connection: Connection, now: datetime) -> Sequence[Waiting]:
    pairs = connection.scalars(_FIRST_OF_EACH, {"now": now}).all()
    found = [run_id for run_id in pairs if run_id is not None]
    if not found:
        return ()
    # A query of its own: joined to the look-ups, PostgreSQL reads all of `runs`.
    return [_waiting(row) for row in connection.execute(_NAMED, {"ids": found}).all()]


def _running(connection: Connection) -> tuple[Running, ...]:
    by_run: dict[str, list[Any]] = {}
    for row in connection.execute(_ATTEMPTS).all():
        by_run.setdefault(row.run_id, []).append(row)
    return tuple(
        Running(
            run_id=run_id,
            owner=first.owner,
            slots=tuple(row.slot_id for row in held),
            started_at=first.started_at,
            priority=first.priority,
            cores=first.cores,
            data=first.data,
            seconds=first.seconds,
            preemptible=first.preemptible,
            backfilled=first.backfilled,
            yielding=first.yielding or first.state == RunState.CANCELLING,
        )
        for run_id, held in by_run.items()
        for first in held[:1]
    )


def hosts_of(
    connection: Connection, now: datetime, asking: str = ""
) -> tuple[tuple[Host, ...], frozenset[int]]:
    """Return hosts that live and take runs, and which of their slots are given to nobody."""
    lives = {"silent_since": now - WORKER_SILENT, "asking": asking}
    rows = connection.execute(_OFFERED, lives).all()
    found: dict[str, list[Slot]] = {}
    cores, data, shut = {}, {}, set()
    for row in rows:
        cores[row.worker] = row.cores
        data[row.worker] = None if row.datasets is None else frozenset(row.datasets)
        slot = Slot(row.id, row.queue, row.kind, row.memory, row.device_name)
        found.setdefault(row.worker, []).append(slot)
        if row.unconfirmed or row.quarantine is not None or row.foreign_use is not None:
            shut.add(row.id)
    hosts = tuple(Host(name, tuple(own), cores[name], data[name]) for name, own in found.items())
    return hosts, frozenset(shut)


def accounts(
    connection: Connection, now: datetime, attempts: Iterable[Running]
) -> Mapping[str, Account]:
    """Return everybody's usage, shares and quotas; running attempts count up to now."""
    live: dict[str, float] = {}
    for attempt in attempts:
        elapsed = max(LEAST_CHARGE, (now - attempt.started_at).total_seconds())
        live[attempt.owner] = live.get(attempt.owner, 0.0) + elapsed * len(attempt.slots)
    rows = connection.execute(_PEOPLE).all()
    limited = [row.name for row in rows if row.most_hours is not None]
    week = _week(connection, limited, now) if limited else {}
    return {
        row.name: Account(
            usage=decay(row.usage_seconds, row.usage_at, now) + live.get(row.name, 0.0),
            share=row.share,
            group=row.group_name,
            week=week.get(row.name, 0.0),
            most_running=row.most_running,
            most_week=None if row.most_hours is None else 3600 * row.most_hours,
        )
        for row in rows
    }


def _shares(connection: Connection, people: Mapping[str, Account]) -> Mapping[str, float]:
    """Return the shares of groups, if anybody is in one."""
    if all(account.group is None for account in people.values()):
        return {}
    return {row.name: row.share for row in connection.execute(_GROUPS)}


def _week(connection: Connection, owners: list[str], now: datetime) -> dict[str, float]:
    """Return slot-seconds of the last seven days by owner."""
    begin = now - WEEK
    rows = connection.execute(
        sa.select(leases.c.owner, leases.c.started_at, leases.c.ended_at).where(
            leases.c.owner.in_(owners), sa.or_(LIVE, leases.c.ended_at > begin)
        )
    )
    used: dict[str, float] = {}
    for row in rows:
        seconds = ((row.ended_at or now) - max(begin, row.started_at)).total_seconds()
        used[row.owner] = used.get(row.owner, 0.0) + max(0.0, seconds)
    return used
