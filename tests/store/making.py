"""Short ways to queued and running runs for store tests."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import NotFound
from domain.presets import expand
from store import fleet, queue, runs
from store.fleet import LIVE
from store.rows import Claim, RunRow, SlotSpec, Vitals
from store.tables import leases
from tests.store.databases import DIGITS, LEASE, NOW

MAX_ATTEMPTS = 3


def queued(
    connection: Connection, *, owner: str = "ada", now: datetime = NOW, **over: Any
) -> RunRow:
    """A queued run."""
    spec = DIGITS
    if over:
        spec = expand({"preset": "part++", "data": {"dataset": "digits"}, **over})
    return runs.submit(connection, spec=spec, owner=owner, now=now).run


def host(
    connection: Connection,
    name: str = "w1",
    *,
    cpu: int = 1,
    gpu: int = 0,
    now: datetime = NOW,
) -> None:
    """A worker with slots."""
    offered = [SlotSpec("cpu", i, "CPU") for i in range(cpu)]
    offered += [SlotSpec("gpu", i, f"GPU {i}") for i in range(gpu)]
    fleet.register_worker(connection, name=name, host="h", pid=1, offered=offered, now=now)


def reads(
    connection: Connection,
    worker: str,
    datasets: tuple[str, ...] | None,
    *,
    now: datetime = NOW,
) -> None:
    """Let a worker report what is under its data root; every slot of its stays as it is."""
    every = {slot.id for slot in fleet.slots_of(connection, worker)}
    seen = Vitals(0.0, 1, 1, 0, datasets)
    fleet.worker_alive(connection, worker, busy_slots=every, now=now, vitals=seen)


def claimed(
    connection: Connection,
    *,
    worker: str = "w1",
    now: datetime = NOW,
    lease: timedelta = LEASE,
) -> Claim | None:
    """The next claim of a worker."""
    return queue.claim(connection, worker=worker, now=now, lease=lease)


def running(connection: Connection, **over: Any) -> Claim:
    """A run in its first attempt."""
    host(connection)
    queued(connection, **over)
    claim = claimed(connection)
    assert claim is not None
    return claim


def lease_of(connection: Connection, run_id: str, attempt: int) -> datetime:
    """Return when a live lease runs out. Raises NotFound."""
    found: datetime | None = connection.scalar(
        sa.select(leases.c.expires_at).where(
            leases.c.run_id == run_id,
            leases.c.attempt == attempt,
            leases.c.rank == 0,
            LIVE,
        )
    )
    if found is None:
        raise NotFound("lease of run", run_id)
    return found


def live_leases(connection: Connection) -> Sequence[sa.Row[Any]]:
    """Return every live lease: run_id, attempt, rank, slot_id, worker, expires_at."""
    return connection.execute(sa.select(leases).where(LIVE).order_by(leases.c.id)).all()
