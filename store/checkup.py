"""What the database holds that bears on the lab's health, and on its metrics."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import schedule
from domain.checkup import (
    CANCELLING_SECONDS,
    OVERDUE_SECONDS,
    Disk,
    Host,
    Rows,
    Schema,
    Shut,
    Store,
)
from domain.run_state import RunState
from store import snapshots
from store.fleet import LIVE, SIGNED_OFF, WORKER_SILENT
from store.tables import (
    REVISION,
    leases,
    needs,
    run_dependencies,
    run_events,
    runs,
    service_beats,
    slots,
    workers,
)
from store.waits import described

AT_WORK = (RunState.RUNNING, RunState.CANCELLING)


@dataclass(frozen=True)
class Counts:
    """The queue in numbers that a time series is kept of."""

    runs: Mapping[str, int]
    """By state."""
    slots: Mapping[tuple[str, str], int]
    """By kind and what becomes of them: free, busy, unconfirmed, quarantine, foreign, drained or
    silent."""
    workers: Mapping[str, int]
    """At work or silent."""
    ended: Mapping[str, int]
    """Attempts that have ended, by outcome."""
    overdue: int
    """Live leases that have run out."""
    oldest_wait: Mapping[str, float]
    """Seconds that a runnable run of each queue waits at most, since it last came to wait."""
    reaper: datetime | None
    """When leases were last looked through."""
    hosts: Sequence[Host]


def schema(connection: Connection) -> Schema:
    """Return the database's schema beside the one this version needs."""
    revision: str | None = None
    if sa.inspect(connection).has_table("alembic_version"):
        revision = connection.scalar(sa.text("select version_num from alembic_version"))
    dialect = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.dialect.name]
    return Schema(dialect, revision, REVISION)


def rows(connection: Connection, now: datetime) -> Rows:
    """Return what the checks are made on."""
    live = sa.exists().where(leases.c.run_id == runs.c.id, LIVE)
    stays = sa.select(run_dependencies.c.after_id).where(run_dependencies.c.run_id == runs.c.id)
    blockers = sa.select(sa.func.count()).select_from(stays.correlate(runs).subquery())
    since = (
        sa.select(sa.func.max(run_events.c.at))
        .where(run_events.c.run_id == runs.c.id, run_events.c.target == RunState.CANCELLING)
        .correlate(runs)
        .scalar_subquery()
    )
    long_ago = now - timedelta(seconds=CANCELLING_SECONDS)

    def which(*conditions: sa.ColumnElement[bool]) -> Sequence[str]:
        return connection.scalars(sa.select(runs.c.id).where(*conditions).order_by(runs.c.id)).all()

    late = now - timedelta(seconds=OVERDUE_SECONDS)
    seen = hosts(connection, now)
    return Rows(
        hosts=seen,
        shut=_shut(connection, {host.name for host in seen if host.has_left}),
        reaper_silent=_seconds(_reaper(connection), now),
        overdue=which(
            sa.exists().where(leases.c.run_id == runs.c.id, LIVE, leases.c.expires_at < late)
        ),
        unleased=which(runs.c.state.in_(AT_WORK), ~live),
        leased=which(runs.c.state.not_in(AT_WORK), live),
        cancelling=which(runs.c.state == RunState.CANCELLING, since < long_ago),
        miscounted=which(
            runs.c.state == RunState.QUEUED, runs.c.blockers != blockers.scalar_subquery()
        ),
        unmet=_unmet(connection, now),
        waiting=connection.scalar(sa.select(sa.func.count()).where(runs.c.state == RunState.QUEUED))
        or 0,
    )


def hosts(connection: Connection, now: datetime) -> tuple[Host, ...]:
    """Return every worker as it last told of itself."""
    return tuple(
        Host(
            name=row.name,
            silent_seconds=(now - row.seen_at).total_seconds(),
            has_left=row.pid == SIGNED_OFF or (row.draining and now - row.seen_at > WORKER_SILENT),
            clock_skew=row.clock_skew,
            disk=None if row.disk_total is None else Disk(row.disk_free, row.disk_total),
            orphans=row.orphans,
            standby_bytes=row.standby_bytes,
            store=None if row.store_error is None else Store(row.store_id, row.store_error),
            driver_error=row.driver_error or "",
            rival=_rival(row, now),
        )
        for row in connection.execute(sa.select(workers).order_by(workers.c.name))
    )


def _rival(row: sa.Row[Any], now: datetime) -> str:
    """Return the host of another worker that asked for this one's name a moment ago."""
    recent = row.rival_at is not None and now - row.rival_at < WORKER_SILENT
    return str(row.rival) if recent else ""


def counts(connection: Connection, now: datetime) -> Counts:
    """Return what a time series is kept of."""
    overdue = sa.select(sa.func.count()).where(LIVE, leases.c.rank == 0, leases.c.expires_at < now)
    seen = hosts(connection, now)
    return Counts(
        runs={state.value: 0 for state in RunState} | _by(connection, runs.c.state),
        slots=_slots(connection, now),
        workers=Counter(_liveness(host) for host in seen if not host.has_left),
        ended=_by(connection, leases.c.outcome, leases.c.rank == 0, leases.c.ended_at.is_not(None)),
        overdue=connection.scalar(overdue) or 0,
        oldest_wait=_oldest_wait(connection, now),
        reaper=_reaper(connection),
        hosts=seen,
    )


def _oldest_wait(connection: Connection, now: datetime) -> Mapping[str, float]:
    """Return how long the oldest runnable run of each queue waits.

    Not since it was submitted: what ran for days, was paused, or followed a run that did, waits
    since then.
    """
    queued = (
        sa.select(sa.func.max(run_events.c.at))
        .where(run_events.c.run_id == runs.c.id, run_events.c.target == RunState.QUEUED)
        .correlate(runs)
        .scalar_subquery()
    )
    begun = sa.func.coalesce(queued, runs.c.submitted_at)
    since = sa.case((begun > runs.c.not_before, begun), else_=runs.c.not_before)
    oldest = connection.execute(
        sa.select(needs.c.queue, sa.func.min(since, type_=runs.c.not_before.type).label("since"))
        .join(runs, runs.c.needs_id == needs.c.id)
        .where(snapshots.is_ready(now))
        .group_by(needs.c.queue)
    )
    return {row.queue: (now - row.since).total_seconds() for row in oldest}


def _liveness(host: Host) -> str:
    return "at-work" if host.silent_seconds <= WORKER_SILENT.total_seconds() else "silent"


def _by(
    connection: Connection, column: sa.Column[Any], *conditions: sa.ColumnElement[bool]
) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(*conditions).group_by(column)
    return {str(value): count for value, count in connection.execute(query)}


def _slots(connection: Connection, now: datetime) -> Mapping[tuple[str, str], int]:
    joined = slots.join(workers, workers.c.name == slots.c.worker)
    query = (
        sa.select(slots, workers.c.seen_at, workers.c.draining, leases.c.run_id)
        .select_from(joined.outerjoin(leases, sa.and_(leases.c.slot_id == slots.c.id, LIVE)))
        .where(slots.c.offered)
    )
    return Counter((row.kind, _use(row, now)) for row in connection.execute(query))


def _use(row: Any, now: datetime) -> str:  # noqa: ANN401 - a row of the query above
    cases = (
        ("busy", row.run_id is not None),
        ("unconfirmed", row.unconfirmed),
        ("silent", now - row.seen_at > WORKER_SILENT),
        ("quarantine", row.quarantine is not None),
        ("foreign", row.foreign_use is not None),
        ("drained", row.draining),
    )
    return next((name for name, holds in cases if holds), "free")


def _shut(connection: Connection, left: Collection[str]) -> tuple[Shut, ...]:
    """Return the slots that are given to nobody, but for those of hosts that have left."""
    held = sa.exists().where(leases.c.slot_id == slots.c.id, LIVE)
    mine = sa.and_(slots.c.offered, slots.c.worker.not_in(left))
    query = sa.select(slots, held.label("held")).where(mine).order_by(slots.c.id)
    found = []
    for row in connection.execute(query):
        name = f"{row.kind}:{row.ordinal}"
        if row.quarantine is not None:
            found.append(Shut(row.worker, name, "quarantine", row.quarantine))
        if row.foreign_use is not None:
            found.append(Shut(row.worker, name, "foreign", f"used by {row.foreign_use}"))
        if row.unconfirmed and not row.held:
            told = "a lost attempt's process may still be on it"
            found.append(Shut(row.worker, name, "unconfirmed", told))
    return tuple(found)


def _unmet(connection: Connection, now: datetime) -> tuple[str, ...]:
    seen = snapshots.snapshot(connection, now)
    why = schedule.plan(seen).why
    wanted = {
        w.needs
        for w in seen.waiting
        if why[w.run_id] in ("no-worker", "impossible", "data-missing")
    }
    return tuple(sorted(described(one) for one in wanted))


def _reaper(connection: Connection) -> datetime | None:
    mine = service_beats.c.name == "reaper"
    at: datetime | None = connection.scalar(sa.select(service_beats.c.last_at).where(mine))
    return at


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()
