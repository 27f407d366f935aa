"""Giving back what dead workers held."""

import logging

from sqlalchemy import Engine

from store import queue
from store.engine import database_now, writing
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
    for item in lost:
        log.warning("run %s lost attempt %d and is %s", item.run_id, item.attempt, item.outcome)
    return len(lost)
