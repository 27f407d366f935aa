"""Giving back what dead workers held."""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable

import psutil
from sqlalchemy import Connection, Engine

from store import fleet, queue
from store.engine import clock_skew, database_now, writing
from store.fleet import SIGNED_OFF
from store.rows import Reaped, WorkerRow
from worker import orphans
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)
CLOCK_SECONDS = 2.0
"""How exactly the start of a process is known: Linux tells its own in whole seconds."""


def reap(engine: Engine, settings: WorkerSettings) -> int:
    """End every lease that ran out; return how many. Any worker may do it at any time."""
    with writing(engine) as connection:
        lost = queue.reap(
            connection,
            now=database_now(connection),
            lease=settings.lease,
            max_attempts=settings.max_attempts,
            failed=_tell_failure,
        )
    _tell(lost)
    return len(lost)


def is_taken(connection: Connection, settings: WorkerSettings) -> bool:
    """Whether another worker of this name is at work. Two would take each other's slots as theirs.

    On this host as long as its process lives, however silent: it may be frozen, its children are
    not. On another host when it was seen within a lease.
    """
    mine = _registered(connection, settings)
    if mine is None or mine.pid == SIGNED_OFF:
        return False
    seen = database_now(connection) - mine.seen_at < settings.lease
    if mine.host != socket.gethostname():
        return seen
    started = _start_of(mine.pid)
    return started is not None and (seen or _registered_since(connection, mine, started))


def _registered_since(connection: Connection, worker: WorkerRow, started: float) -> bool:
    """Whether the worker registered after that moment of this host's clock.

    A process that began later has the id of a worker that is dead.
    """
    skew = clock_skew(connection, time.time)
    return started - skew <= worker.started_at.timestamp() + CLOCK_SECONDS


def recover(
    connection: Connection, settings: WorkerSettings, *, supervised: Collection[str]
) -> None:
    """Give back what this worker held before it was killed, without waiting for the leases.

    Only for a name that :func:`is_taken` found free, and only if it was of this host: its process
    is dead. Its children died with it, what they forked is ended here, and the fence holds.

    supervised: attempts of this process, from before it lost its name for a while. While there are
    any, leases are left to end by themselves: nobody can tell whose they are.
    """
    mine = _registered(connection, settings)
    if mine is None or mine.host != socket.gethostname():
        return
    if not supervised:
        now, most = database_now(connection), settings.max_attempts
        lost = queue.recover(
            connection, worker=mine.name, now=now, max_attempts=most, failed=_tell_failure
        )
        _tell(lost)
    orphans.end(settings.work_folder, left_behind(connection, settings, supervised=supervised))


def left_behind(
    connection: Connection, settings: WorkerSettings, *, supervised: Collection[str]
) -> set[str]:
    """Return the ended attempts of this worker that left a process on this host.

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


def _start_of(pid: int) -> float | None:
    """Return when the process of that id started, in Unix time; None if it is dead.

    So is who had this process' own id before: in a container that is always 1.
    """
    if pid == os.getpid():
        return None
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _tell(lost: Iterable[Reaped]) -> None:
    for item in lost:
        log.warning("run %s lost attempt %d and is %s", item.run_id, item.attempt, item.outcome)


def _tell_failure(run_id: str, attempt: int, error: Exception) -> None:
    log.error("run %s attempt %d could not be given back", run_id, attempt, exc_info=error)
