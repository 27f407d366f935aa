"""What every attempt cost: slot-seconds from leases, useful and wasted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from store.tables import leases, runs

By = Literal["attempt", "user", "experiment", "week"]


@dataclass(frozen=True)
class LedgerRow:
    """Slot-seconds of an attempt, or of all that share a user, an experiment or a week."""

    name: str
    """Run and attempt, user, experiment, or ISO week."""
    kind: str
    """`cpu` or `gpu`."""
    attempts: int
    useful: float
    """Slot-seconds whose work is kept, or still may be."""
    wasted: float
    """Of failed and cancelled attempts, and of those that a later one goes on from, after their
    last checkpoint."""


@dataclass(frozen=True)
class _Attempt:
    run_id: str
    attempt: int
    owner: str
    experiment: str
    kind: str
    slots: int
    started_at: datetime
    ended_at: datetime
    outcome: str | None
    kept_at: datetime | None

    @property
    def seconds(self) -> float:
        return max(0.0, (self.ended_at - self.started_at).total_seconds()) * self.slots

    @property
    def useful(self) -> float:
        """What is kept: all if it succeeded or still runs, nothing if it failed or was cancelled.

        Of one that was lost, gave way or was handed back, what its last checkpoint holds: it was
        to take one, which says nothing of whether it could.
        """
        if self.outcome in ("succeeded", None):
            return self.seconds
        if self.outcome in ("failed", "cancelled") or self.kept_at is None:
            return 0.0
        kept = (min(self.kept_at, self.ended_at) - self.started_at).total_seconds()
        return max(0.0, kept) * self.slots

    def name(self, by: By) -> str:
        match by:
            case "attempt":
                return f"{self.run_id}/{self.attempt}"
            case "user":
                return self.owner
            case "experiment":
                return self.experiment
            case "week":
                year, week, _ = self.started_at.isocalendar()
                return f"{year}-W{week:02d}"


def ledger(
    connection: Connection, *, by: By, now: datetime, since: datetime | None = None
) -> tuple[LedgerRow, ...]:
    """Return what attempts that started at ``since`` or later cost; live ones count up to ``now``.

    An attempt belongs to the week it started in.
    """
    totals: dict[tuple[str, str], tuple[int, float, float]] = {}
    for attempt in _attempts(connection, now, since):
        key = attempt.name(by), attempt.kind
        count, useful, wasted = totals.get(key, (0, 0.0, 0.0))
        kept = attempt.useful
        totals[key] = count + 1, useful + kept, wasted + attempt.seconds - kept
    return tuple(
        LedgerRow(name, kind, *figures) for (name, kind), figures in sorted(totals.items())
    )


def _attempts(connection: Connection, now: datetime, since: datetime | None) -> Iterator[_Attempt]:
    shared = (
        *(leases.c.run_id, leases.c.attempt, leases.c.owner, leases.c.started_at),
        *(leases.c.ended_at, leases.c.outcome, leases.c.kept_at),
        *(runs.c.experiment, runs.c.slot_kind),
    )
    query = (
        sa.select(*shared, sa.func.count().label("slots"))
        .join(runs, runs.c.id == leases.c.run_id)
        .group_by(*shared)
        .order_by(leases.c.run_id, leases.c.attempt)
    )
    if since is not None:
        query = query.where(leases.c.started_at >= since)
    for row in connection.execute(query):
        yield _Attempt(
            run_id=row.run_id,
            attempt=row.attempt,
            owner=row.owner,
            experiment=row.experiment,
            kind=row.slot_kind,
            slots=row.slots,
            started_at=row.started_at,
            ended_at=row.ended_at or now,
            outcome=row.outcome,
            kept_at=row.kept_at,
        )


def as_csv(rows: Iterable[LedgerRow], by: By) -> Iterator[tuple[str | int | float, ...]]:
    """Yield a header and the rows of a CSV file."""
    yield (by, "kind", "attempts", "useful_seconds", "wasted_seconds")
    for row in rows:
        yield (row.name, row.kind, row.attempts, round(row.useful, 3), round(row.wasted, 3))
