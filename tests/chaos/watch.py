"""Looking at the lab all the time: what its database says, and which processes there are."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from domain.run_state import RunState
from store import artifacts, metrics
from store.blobs import Blobs
from store.engine import database_now, reading
from store.tables import leases, run_events, runs, slots, workers
from tests.chaos.chain import SERIES
from tests.chaos.lab import POLL, Lab, Left

LOOK_SECONDS = 0.1
KNOWS_SECONDS = 0.5
"""After which a worker has seen the signal that it was sent."""


@dataclass(frozen=True)
class Lease:
    """One slot of one attempt."""

    run_id: str
    attempt: int
    slot: int
    worker: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Sample:
    """The lab at one moment."""

    at: datetime
    """The database's clock before anything was looked at."""
    calm: bool
    """Whether no fault is in force."""
    left: tuple[Left, ...]
    runs: Mapping[str, tuple[RunState, int]]
    """State and attempt."""
    waiting: frozenset[str]
    """Runs that nothing holds but the want of a slot."""
    free: int
    """Slots that a living worker could use at once."""
    devices: Mapping[str, int]
    leases: tuple[Lease, ...]
    stopping: frozenset[str] = frozenset()
    """Workers that know they are to stop, and still run."""


@dataclass(frozen=True)
class History:
    """All that the lab kept of one run."""

    run_id: str
    name: str
    seed: int
    state: RunState
    attempt: int
    failure: str
    cancelled: bool
    """Whether somebody asked for it."""
    events: tuple[tuple[str, int], ...]
    """State and attempt after each change of state."""
    leases: tuple[Lease, ...]
    points: tuple[tuple[int, float], ...]
    """Steps and losses."""
    weights: str | None
    """The sha256 of the final weights' bytes, if they can be read."""


def look(lab: Lab, *, calm: bool) -> Sample:
    """Take a sample. Raises DBAPIError while the database is away."""
    with reading(lab.engine) as connection:
        at = database_now(connection)
    left = tuple(lab.left())
    with reading(lab.engine) as connection:
        rows = connection.execute(sa.select(runs)).all()
        waiting = frozenset(
            row.id for row in rows if row.state == "queued" and not row.held and row.not_before < at
        )
        return Sample(
            at=at,
            calm=calm,
            left=left,
            runs={row.id: (RunState(row.state), row.attempt) for row in rows},
            waiting=waiting,
            free=_free(connection, at),
            devices=Counter(connection.scalars(sa.select(slots.c.worker).where(slots.c.offered))),
            leases=_leases(connection),
            stopping=_stopping(lab),
        )


def _stopping(lab: Lab) -> frozenset[str]:
    """Return who was told to stop a while ago; one that is frozen may not know it yet."""
    known = set()
    for pid, (name, since) in list(lab.stopping.items()):
        with suppress(psutil.Error):
            status = psutil.Process(pid).status()
            if time.monotonic() - since > KNOWS_SECONDS and status != psutil.STATUS_STOPPED:
                known.add(name)
    return frozenset(known)


def _free(connection: Connection, at: datetime) -> int:
    busy = sa.select(leases.c.slot_id).where(leases.c.ended_at.is_(None))
    query = (
        sa.select(workers.c.seen_at)
        .select_from(slots.join(workers, workers.c.name == slots.c.worker))
        .where(
            slots.c.offered, ~slots.c.unconfirmed, slots.c.quarantine.is_(None),
            ~workers.c.draining, slots.c.id.not_in(busy),
        )
    )  # fmt: skip
    return sum((at - seen).total_seconds() < 2 * POLL for seen in connection.scalars(query))


def _leases(connection: Connection, *where: sa.ColumnElement[bool]) -> tuple[Lease, ...]:
    rows = connection.execute(sa.select(leases).where(*where).order_by(leases.c.id))
    return tuple(
        Lease(r.run_id, r.attempt, r.slot_id, r.worker, r.started_at, r.ended_at) for r in rows
    )


def history(lab: Lab, run_id: str) -> History:
    """Read all that was kept of a run."""
    with reading(lab.engine) as connection:
        row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one()
        events = connection.execute(
            sa.select(run_events.c.target, run_events.c.attempt, run_events.c.reason)
            .where(run_events.c.run_id == run_id)
            .order_by(run_events.c.id)
        ).all()
        points = ()
        if any(series.name == SERIES for series in metrics.summary(connection, run_id)):
            told_steps, losses = metrics.history(connection, run_id, SERIES)
            points = tuple(zip(told_steps, losses, strict=True))
        files = [f for f in artifacts.listing(connection, run_id) if f.kind == "weights"]
        mine = _leases(connection, leases.c.run_id == run_id)
    return History(
        run_id=run_id,
        name=row.name,
        seed=row.seed,
        state=RunState(row.state),
        attempt=row.attempt,
        failure=(row.failure or {}).get("failure_class", ""),
        cancelled=any(reason.startswith("cancelled by ") for *_, reason in events),
        events=tuple((target, attempt) for target, attempt, _ in events),
        leases=mine,
        points=points,
        weights=_sha256(lab, files[0].key, files[0].sha256) if len(files) == 1 else None,
    )


def _sha256(lab: Lab, key: str, sha256: str) -> str:
    """Return what the store says, after its bytes were compared with it."""
    copy = lab.folder / "copy"
    Blobs(str(lab.artifacts)).fetch(key, copy, sha256=sha256)
    Path(copy).unlink()
    return sha256


class Watch(threading.Thread):
    """Takes samples until it is stopped; a database that is away is a pause."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample | None] = []
        """In order; None where the database was away."""
        self.calm = threading.Event()
        self._lab = lab
        self._over = threading.Event()

    def run(self) -> None:
        """Look, again and again."""
        while not self._over.wait(LOOK_SECONDS):
            sample = None
            with suppress(DBAPIError):
                sample = look(self._lab, calm=self.calm.is_set())
            self.samples.append(sample)

    def stop(self) -> list[Sample | None]:
        """Stop and return what was seen."""
        self._over.set()
        self.join()
        return self.samples
