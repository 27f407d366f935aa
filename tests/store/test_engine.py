import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from domain.run_state import RunState
from migrations.__main__ import configuration, main
from store import runs
from store.engine import NETWORK, database_now, make_engine, reading, writing
from store.queue import claim
from store.tables import UtcDateTime, users
from store.users import create_user
from tests.store.databases import LEASE, NOW, after, fresh_engine, fresh_url
from tests.store.making import live_leases, queued


def test_models_and_migrations_agree(database_url):
    command.check(configuration(database_url))


def test_a_second_upgrade_changes_nothing(database_url):
    command.upgrade(configuration(database_url), "head")
    command.check(configuration(database_url))


def test_the_shared_queue_keeps_what_was_there_before(database_url):
    """Tables are rebuilt on SQLite, which must not delete what refers to them."""
    if database_url.startswith("sqlite"):
        Path(sa.make_url(database_url).database).unlink()
    else:
        command.downgrade(configuration(database_url), "0002")
    command.upgrade(configuration(database_url), "0002")
    engine = make_engine(database_url)
    with writing(engine) as connection:
        for statement in BEFORE:
            connection.execute(sa.text(statement), {"now": NOW.isoformat(" "), "run": RUN})
    command.upgrade(configuration(database_url), "head")
    command.check(configuration(database_url))
    with writing(engine) as connection:
        assert connection.scalar(sa.text("select count(*) from run_events")) == 1
        row = runs.get(connection, RUN)
        assert (row.state, row.preemptible, row.held, row.blockers) == ("running", True, False, 0)
        (lease,) = live_leases(connection)
        assert (lease.run_id, lease.rank, lease.yielding) == (RUN, 0, False)
        runs.transition(connection, RUN, to=RunState.SUCCEEDED, now=after(60), reason="", attempt=1)
    engine.dispose()
    command.downgrade(configuration(database_url), "0002")


def test_going_back_before_the_data_of_hosts_keeps_the_runs(engine):
    """Needs that differed in their dataset alone are one again."""
    url = engine.url.render_as_string(hide_password=False)
    with writing(engine) as connection:
        for dataset in ("digits", "svhn", "cifar10"):
            queued(connection, data={"dataset": dataset})
    engine.dispose()
    command.downgrade(configuration(url), "0004")
    with writing(engine) as connection:
        asked = connection.scalars(sa.text("select distinct needs_id from runs")).all()
        assert len(asked) == 1
        assert connection.scalar(sa.text("select count(*) from run_events")) == 3
    engine.dispose()
    command.upgrade(configuration(url), "head")


RUN = "01kb7qz3h4m8x2v9ap"
BEFORE = (
    "insert into users (name, role, created_at, usage_at) values ('ada', 'member', :now, :now)",
    "insert into experiments (name, owner, created_at) values ('default', 'ada', :now)",
    "insert into runs (id, owner, experiment, kind, tags, state, version, attempt, priority, "
    "slot_kind, seed, spec, spec_sha256, submitted_at, not_before) values (:run, 'ada', 'default', "
    "'train', '[]', 'running', 1, 1, 0, 'cpu', 42, '{}', 'x', :now, :now)",
    "insert into run_events (run_id, at, target, attempt, reason, actor) "
    "values (:run, :now, 'running', 1, '', 'ada')",
    "insert into workers (name, host, pid, started_at, seen_at) values ('w', 'h', 1, :now, :now)",
    "insert into slots (id, worker, kind, ordinal, device_name, offered, unconfirmed) "
    "values (1, 'w', 'cpu', 0, 'CPU', true, false)",
    "insert into leases (run_id, attempt, slot_id, worker, owner, started_at, expires_at) "
    "values (:run, 1, 1, 'w', 'ada', :now, :now)",
)
"""A lab of revision 0002 in which one run runs."""


def test_the_command_creates_the_default_database(tmp_path):
    state = tmp_path / "lab state"
    environment = {"PARTLAB_STATE": str(state), "PATH": ""}
    command_line = [sys.executable, "-m", "migrations", "upgrade"]
    for _ in range(2):
        subprocess.run(command_line, env=environment, check=True, timeout=60)
    assert (state / "lab.sqlite3").exists()


def test_an_unknown_command_says_which_there_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PARTLAB_STATE", str(tmp_path))
    assert main(["sideways"]) == 2
    assert "upgrade" in capsys.readouterr().err


def test_an_error_rolls_back(engine):
    def fail() -> None:
        with writing(engine) as connection:
            create_user(connection, "zoe", "member", NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with reading(engine) as connection:
        assert connection.scalar(sa.select(users.c.name).where(users.c.name == "zoe")) is None


def test_the_databases_clock_is_aware_and_right(engine):
    with reading(engine) as connection:
        now = database_now(connection)
    assert now.tzinfo is UTC
    assert abs((now - datetime.now(UTC)).total_seconds()) < 60


def test_naive_times_are_refused():
    with pytest.raises(ValueError, match="naive"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), None)  # noqa: DTZ001


def test_writers_wait_for_each_other_instead_of_failing():
    """Sixteen read-then-write transactions at once: with deferred BEGIN some would fail."""
    errors: list[Exception] = []

    def add_one(engine: sa.Engine) -> None:
        try:
            with writing(engine) as connection:
                seconds = connection.scalar(sa.select(users.c.usage_seconds).limit(1))
                connection.execute(users.update().values(usage_seconds=seconds + 1))
        except sa.exc.OperationalError as error:
            errors.append(error)

    with fresh_engine("sqlite") as engine:
        threads = [threading.Thread(target=add_one, args=(engine,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        with reading(engine) as connection:
            assert set(connection.scalars(sa.select(users.c.usage_seconds))) == {16.0}
    assert errors == []


def test_who_freezes_inside_a_transaction_stops_nobody(monkeypatch):
    """A worker stopped between claim and commit loses its transaction, and with it the lock."""
    monkeypatch.setattr("store.engine.IDLE_SECONDS", 0.5)
    with fresh_engine("postgresql") as engine, engine.connect() as frozen:
        claim(frozen, worker="frozen", now=NOW, lease=LEASE)
        with writing(engine) as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            claim(connection, worker="alive", now=NOW, lease=LEASE)
        with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction"):
            frozen.execute(sa.select(users.c.name))


def settings_of(connection, *names: str) -> list[str]:
    return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


def test_a_network_that_swallows_packets_is_noticed_in_time():
    """A renewal that hangs for a quarter of an hour loses a lease that could have been kept."""
    with fresh_engine("postgresql") as engine, reading(engine) as connection:
        told = connection.connection.driver_connection.info.get_parameters()
    wanted = {name: str(value) for name, value in NETWORK.items()}
    assert wanted.items() <= told.items()
    assert wanted["tcp_user_timeout"] == "10000"


def test_what_the_url_says_of_the_network_comes_first():
    with fresh_url("postgresql") as url:
        own = sa.make_url(url).update_query_dict({"connect_timeout": "77"})
        engine = make_engine(own.render_as_string(hide_password=False))
        with reading(engine) as connection:
            told = connection.connection.driver_connection.info.get_parameters()
        engine.dispose()
    assert (told["connect_timeout"], told["keepalives_idle"]) == ("77", "10")


def test_plans_are_not_compiled():
    """Without statistics a claim's look-ups seem worth it; compiling takes longer than they do."""
    with fresh_engine("postgresql") as engine, reading(engine) as connection:
        assert connection.exec_driver_sql("show jit").scalar_one() == "off"


def test_a_statement_that_never_ends_is_cut_off_unless_it_migrates(monkeypatch):
    monkeypatch.setattr("store.engine.STATEMENT_SECONDS", 0.2)
    with fresh_engine("postgresql") as engine:
        for opened in (reading, writing):
            with opened(engine) as connection, pytest.raises(sa.exc.OperationalError):
                connection.exec_driver_sql("select pg_sleep(30)")
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.exec_driver_sql("select pg_sleep(0.4)")
        with reading(engine) as connection:
            assert settings_of(connection, "statement_timeout") == ["200ms"], "of this one alone"


def test_migrations_wait_for_each_other_longer_than_a_statement_may_take(monkeypatch):
    monkeypatch.setattr("store.engine.STATEMENT_SECONDS", 0.2)
    with fresh_url("postgresql") as url:
        engine = make_engine(url)
        with ThreadPoolExecutor(1) as threads, engine.connect() as other, other.begin():
            other.execute(sa.select(sa.func.pg_advisory_xact_lock(0x4D494752)))
            upgrade = threads.submit(command.upgrade, configuration(url), "head")
            with pytest.raises(TimeoutError):
                upgrade.result(timeout=0.6)
            other.rollback()
            upgrade.result(timeout=30)
        engine.dispose()
