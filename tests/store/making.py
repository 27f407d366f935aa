"""Short ways to queued and running runs for store tests."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from domain.presets import expand
from store import fleet, queue, runs
from store.rows import Claim, RunRow, SlotSpec
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
