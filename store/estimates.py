"""How long runs are expected to take, each from the best that is known of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import stored_spec
from domain.errors import SpecInvalid
from domain.family import works
from domain.forecast import UNKNOWN_SECONDS, Durations, Ended, Estimate, reported_left
from domain.schedule import Running, Snapshot, Waiting
from domain.spec import TrainSpec
from store.snapshots import is_ready
from store.tables import UtcDateTime, families, runs

_ENDED = sa.select(families.c.name, families.c.seconds, families.c.runs)
_NOT_BY_FAMILY = (
    sa.select(runs.c.id, runs.c.family, runs.c.expected_seconds)
    .outerjoin(families, families.c.name == runs.c.family)
    .where(
        is_ready(sa.bindparam("now", type_=UtcDateTime)),
        sa.or_(runs.c.expected_seconds.is_not(None), families.c.name.is_(None)),
    )
)
_RUNNING = sa.select(
    runs.c.id,
    runs.c.family,
    runs.c.expected_seconds,
    runs.c.progress,
    runs.c.attempt,
    runs.c.spec,
).where(runs.c.id.in_(sa.bindparam("ids", expanding=True)))


def estimates(connection: Connection, seen: Snapshot) -> Mapping[str, Estimate]:
    """Return how long every run of a snapshot takes in its present attempt, by run."""
    durations = Durations(
        Ended(row.name, row.seconds, row.runs) for row in connection.execute(_ENDED)
    )
    # On PostgreSQL a run may have left the queue since the snapshot: then no row tells of it.
    unknown = Estimate(UNKNOWN_SECONDS, "none")
    everybody: tuple[Waiting | Running, ...] = (*seen.waiting, *seen.running)
    by_run = {
        run.run_id: unknown if run.seconds is None else Estimate(run.seconds, "same-spec")
        for run in everybody
    }
    for row in connection.execute(_NOT_BY_FAMILY, {"now": seen.now}):
        by_run[row.id] = _expected(row, durations)
    return by_run | _of_running(connection, seen, durations)


def _expected(row: Any, durations: Durations) -> Estimate:  # noqa: ANN401 - a row as above
    if row.expected_seconds is not None:
        return Estimate(row.expected_seconds, "declared")
    return durations.of(row.family)


def _of_running(
    connection: Connection, seen: Snapshot, durations: Durations
) -> dict[str, Estimate]:
    started = {run.run_id: run.started_at for run in seen.running}
    if not started:
        return {}
    rows = connection.execute(_RUNNING, {"ids": list(started)}).all()
    return {
        row.id: _reported(row, started[row.id], seen.now) or _expected(row, durations)
        for row in rows
    }


def _reported(row: Any, started_at: datetime, now: datetime) -> Estimate | None:  # noqa: ANN401
    try:
        spec = stored_spec.read(row.spec)
    except SpecInvalid:  # of an earlier version
        return None
    if row.progress is None or not isinstance(spec, TrainSpec):
        return None
    training, after = works(spec)
    elapsed = (now - started_at).total_seconds()
    left = reported_left(
        row.progress,
        batch_size=spec.training.batch_size,
        elapsed=elapsed if row.attempt <= 1 else None,
        after=after / training,
    )
    return None if left is None else Estimate(elapsed + left, "reported")


def timed(seen: Snapshot, by_run: Mapping[str, Estimate]) -> Snapshot:
    """Return a snapshot in which every run has its estimate."""
    return replace(
        seen,
        waiting=tuple(replace(run, seconds=by_run[run.run_id].seconds) for run in seen.waiting),
        running=tuple(replace(run, seconds=by_run[run.run_id].seconds) for run in seen.running),
    )
