"""Giving back what dead workers held."""

import logging
import os
import socket
from collections.abc import Collection, Iterable

import psutil
from sqlalchemy import Connection, Engine

from store import fleet, queue
from store.engine import database_now, writing
from store.fleet import SIGNED_OFF
from store.rows import Reaped, WorkerRow
from worker import orphans
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)


def reap(engine: Engine, settings: WorkerSettings) -> int:
    """End every lease that ran out; return how many. Any worker may do it at any time."""
    with writing(engine) as connection:
        lost = queue.reap(
            connection,
            now=database_now(connection),
            lease=settings.lease,
            max_attempts=settings.max_attempts,
        )
    _tell(lost)
    return len(lost)


def is_taken(connection: Connection, settings: WorkerSettings) -> bool:
    """Whether another worker of this name is at work: it was seen within a lease, and not as dead.

    Two of one name would take each other's slots for their own.
    """
    mine = _registered(connection, settings)
    if mine is None or mine.pid == SIGNED_OFF:
        return False
    here = mine.host == socket.gethostname()
    return database_now(connection) - mine.seen_at < settings.lease and (
        _lives(mine.pid) if here else True
    )


def recover(connection: Connection, settings: WorkerSettings) -> None:
    """Give back what this worker held before it was killed, without waiting for the leases.

    Only when the process that registered under this name is known to be dead: it was of this host.
    Its children died with it, what they forked is ended here, and the fence holds in any case.
    """
    mine = _registered(connection, settings)
    if mine is None or mine.host != socket.gethostname() or _lives(mine.pid):
        return
    now = database_now(connection)
    _tell(queue.recover(connection, worker=mine.name, now=now, max_attempts=settings.max_attempts))
    orphans.end(settings.work_folder, left_behind(connection, settings, supervised=()))


def left_behind(
    connection: Connection, settings: WorkerSettings, *, supervised: Collection[str]
) -> set[str]:
    """Return the attempts of this worker, not ``supervised``, that left a process on this host.

    Attempts are named ``<run>-<attempt>``.
    """
    found = {attempt for _, attempt in orphans.find(settings.work_folder)} - set(supervised)
    return fleet.attempts_on(connection, settings.worker_name, found) if found else set()


def sign_off(engine: Engine, settings: WorkerSettings) -> None:
    """Say that this worker has ended, so that the next of its name need not wait."""
    with writing(engine) as connection:
        fleet.sign_off(connection, settings.worker_name, os.getpid())


def _registered(connection: Connection, settings: WorkerSettings) -> WorkerRow | None:
    workers = {worker.name: worker for worker in fleet.all_workers(connection)}
    return workers.get(settings.worker_name)


def _lives(pid: int) -> bool:
    """Whether a process of that id runs which is not this one (a container's is always 1)."""
    return pid != os.getpid() and psutil.pid_exists(pid)


def _tell(lost: Iterable[Reaped]) -> None:
    for item in lost:
        log.warning("run %s lost attempt %d and is %s", item.run_id, item.attempt, item.outcome)
