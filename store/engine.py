"""Connections and transactions, alike on SQLite and PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event

BUSY_SECONDS = 15.0
IDLE_SECONDS = 10.0
"""How long a transaction may stand still before PostgreSQL ends it and frees its locks."""
STATEMENT_SECONDS = 30.0
"""How long a statement of `reading` or `writing` may take, waiting for locks included."""
NETWORK = {
    "connect_timeout": 5,  # seconds; by default a connection is waited for without end
    "tcp_user_timeout": 10_000,  # milliseconds until what was sent has to be acknowledged
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
"""For PostgreSQL: a server that packets no longer reach is given up within about 20 s.

TCP alone takes a quarter of an hour, in which a lease runs out that could have been renewed over
another connection.
"""


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine for ``url``.

    SQLite: write-ahead log, foreign keys, a busy timeout, and transactions that say at once whether
    they write. PostgreSQL: pings before use, so that a restarted server gets a new connection; a
    process that freezes inside a transaction loses it, so that its locks stop nobody else; a
    network that swallows packets, and a statement that never ends, are errors in time.
    """
    if not url.startswith("sqlite"):
        return _make_postgresql(url, pool_size)
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=20,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_postgresql(url: str, pool_size: int) -> Engine:
    asked = sa.make_url(url).query  # what the URL says comes first
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=5,
        pool_pre_ping=True,
        connect_args={name: value for name, value in NETWORK.items() if name not in asked},
    )
    event.listen(engine, "connect", _configure_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI's own
    for name, seconds in (
        ("idle_in_transaction_session_timeout", IDLE_SECONDS),
        ("statement_timeout", STATEMENT_SECONDS),
    ):
        connection.execute(f"SET {name} = {1000 * seconds:.0f}")
    # To compile a plan takes longer than any statement here; without statistics of `users` and
    # `needs`, PostgreSQL expects so much of a claim's look-ups that it would do so.
    connection.execute("SET jit = off")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # A migration, which opens its transaction itself, takes the time it needs.
    if not connection.get_execution_options().get("bounded", False):
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI's own
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails with "database is locked" instead of
    # waiting: whoever may write says so at the start.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open one consistent view; nothing is kept."""
    with engine.connect().execution_options(bounded=True) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open one transaction that may write: committed at the end, rolled back on any error."""
    options = {"writes": True, "bounded": True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def database_now(connection: Connection) -> datetime:
    """Return the database server's clock, aware, UTC: the one clock leases live by."""
    if connection.dialect.name == "sqlite":
        text = connection.scalar(sa.text("select strftime('%Y-%m-%d %H:%M:%f', 'now')"))
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    now: datetime = connection.execute(sa.text("select clock_timestamp()")).scalar_one()
    return now.astimezone(UTC)


def clock_skew(connection: Connection, clock: Callable[[], float]) -> float:
    """Return by how many seconds ``clock``, of Unix time, is ahead of the database's.

    Half of the time that asking takes may be wrong.
    """
    before = clock()
    database = database_now(connection).timestamp()
    return (before + clock()) / 2 - database
