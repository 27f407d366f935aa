"""Giving back what dead workers held."""

import logging
import os
import socket
from collections.abc import Iterable

import psutil
from sqlalchemy import Connection, Engine

from store import fleet, queue
from store.engine import database_now, writing
from store.rows import Reaped
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


def recover(connection: Connection, settings: WorkerSettings) -> None:
    """Give back what this worker held before it was killed, without waiting for the leases.

    Only when the process that registered under this name is known to be dead: it was of this host.
    Its children died with it, and the fence holds even if they did not.
    """
    before = {worker.name: worker for worker in fleet.all_workers(connection)}
    mine = before.get(settings.worker_name)
    if mine is None or mine.host != socket.gethostname() or _lives(mine.pid):
        return
    now = database_now(connection)
    _tell(queue.recover(connection, worker=mine.name, now=now, max_attempts=settings.max_attempts))


def _lives(pid: int) -> bool:
    """Whether a process of that id runs which is not this one (a container's is always 1)."""
    return pid != os.getpid() and psutil.pid_exists(pid)


def _tell(lost: Iterable[Reaped]) -> None:
    for item in lost:
        log.warning("run %s lost attempt %d and is %s", item.run_id, item.attempt, item.outcome)
