"""The store as a worker uses it: short transactions that outlast an outage."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.engine import writing

log = logging.getLogger(__name__)
T = TypeVar("T")
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


class Gone(Exception):
    """The database did not come back while it was worth waiting."""


def persist(
    engine: Engine, work: Callable[[Connection], T], *, give_up: threading.Event | None = None
) -> T:
    """Run ``work`` in a transaction, again and again while the database is away.

    give_up: ends the waiting. Raises Gone then, and whatever ``work`` raises that is no outage.
    """
    wait = FIRST_WAIT
    pause = give_up or threading.Event()
    while True:
        try:
            with writing(engine) as connection:
                return work(connection)
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            if wait == FIRST_WAIT:
                log.warning("the database is away: %s", cause(error))
            if pause.wait(wait):
                raise Gone from error
            wait = min(2 * wait, LONGEST_WAIT)


def is_outage(error: Exception) -> bool:
    """Whether an error says the database cannot be reached or is busy, not that SQL is wrong.

    A pool that has no connection to give is busy as well.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeout)
    return bool(error.connection_invalidated) or type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
        "InternalError",
    }


def cause(error: Exception) -> str:
    """Name the kind of an error: the driver's own where there is one."""
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__
