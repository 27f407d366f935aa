"""Transactions that meet: rows are taken in one order, so that none waits in a circle.

On PostgreSQL alone: SQLite has one writer at a time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from domain.run_state import RunState
from store import queue, runs, users
from store.engine import reading, writing
from store.tables import users as user_rows
from tests.store.databases import LEASE, NOW, after, fresh_engine
from tests.store.making import MAX_ATTEMPTS, claimed, host, queued, running

BOUND = 20.0
"""Seconds after which a test gives up."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with fresh_engine("postgresql") as made:
        yield made


@contextmanager
def meanwhile(engine: Engine, work: Callable[[Connection], object]) -> Iterator[None]:
    """Do ``work`` in a transaction beside what follows; raise what it raised."""

    def beside() -> None:
        with writing(engine) as connection:
            work(connection)

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(beside)
        yield
        future.result(timeout=BOUND)


def until_it_waits(engine: Engine) -> None:
    """Return once a transaction of this database waits for another's lock."""
    query = sa.text(
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'"
    )
    end = time.monotonic() + BOUND
    while time.monotonic() < end:
        with reading(engine) as connection:
            if connection.scalar(query):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def finish(connection, claim, seconds, to=RunState.SUCCEEDED):
    runs.transition(
        connection, claim.run.id, to=to, now=after(seconds), reason="", attempt=claim.attempt
    )


def test_two_attempts_of_one_owner_that_end_at_once_are_both_charged(engine):
    with writing(engine) as connection:
        host(connection, cpu=2)
        queued(connection), queued(connection)
        first, second = claimed(connection), claimed(connection)
    with ExitStack() as beside, writing(engine) as connection:
        finish(connection, first, 1000)
        beside.enter_context(meanwhile(engine, lambda c: finish(c, second, 1000)))
        until_it_waits(engine)
    with reading(engine) as connection:
        mine = user_rows.c.name == "ada"
        used = connection.scalar(sa.select(user_rows.c.usage_seconds).where(mine))
    assert used == pytest.approx(2000)


def test_a_run_may_come_to_follow_one_that_is_failing(engine, monkeypatch):
    """Its submission holds the follower and wants the user; the failure wants both."""
    with writing(engine) as connection:
        users.set_limits(connection, "ada", {"most_queued": 100})
        claim = running(connection)
        follower = queued(connection, after=[claim.run.id], now=after(1))
    within_quota = runs._stay_within_quota

    def slowly(connection: Connection, owner: str) -> None:
        until_it_waits(engine)
        within_quota(connection, owner)

    taken = threading.Event()

    def submit(connection: Connection) -> None:
        runs.locked(connection, follower.id)
        taken.set()
        queued(connection, after=[follower.id], now=after(2))

    monkeypatch.setattr(runs, "_stay_within_quota", slowly)
    with meanwhile(engine, submit):
        assert taken.wait(BOUND)
        with writing(engine) as connection:
            finish(connection, claim, 100, RunState.FAILED)
    with reading(engine) as connection:
        page = runs.find(connection, states=[RunState.FAILED]).items
    assert len(page) == 3, "who came meanwhile fails with the others"


def test_a_run_may_be_retried_while_another_comes_to_follow_it(engine, monkeypatch):
    """The follower's submission holds it and wants the user; the retry wants both."""
    with writing(engine) as connection:
        users.set_limits(connection, "ada", {"most_queued": 100})
        claim = running(connection)
        finish(connection, claim, 10)
    within_quota, taken = runs._stay_within_quota, threading.Event()

    def slowly(connection: Connection, owner: str) -> None:
        if not taken.is_set():
            taken.set()
            until_it_waits(engine)
        within_quota(connection, owner)

    def follow(connection: Connection) -> None:
        queued(connection, after=[claim.run.id], now=after(11))

    monkeypatch.setattr(runs, "_stay_within_quota", slowly)
    with meanwhile(engine, follow):
        assert taken.wait(BOUND)
        with writing(engine) as connection:
            again = runs.retry(connection, claim.run.id, now=after(12), owner="ada")
    assert again.retry_of == claim.run.id


def test_who_is_asked_to_give_way_is_taken_before_its_lease(engine):
    """Its owner, which has taken the run, may still renew."""
    with writing(engine) as connection:
        claim = running(connection)
        queued(connection, owner="bob", priority=5, now=after(1))

    def ask(connection: Connection) -> None:
        assert claimed(connection, now=after(2)) is None

    with ExitStack() as beside, writing(engine) as connection:
        runs.fence(connection, claim.run.id, 1)
        beside.enter_context(meanwhile(engine, ask))
        until_it_waits(engine)
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        assert not queue.renew(
            connection, claim.run.id, 1, now=after(3), lease=LEASE
        ).yield_requested
    with writing(engine) as connection:
        assert queue.renew(connection, claim.run.id, 1, now=after(4), lease=LEASE).yield_requested


def test_a_late_renewal_and_the_reaper_do_not_wait_for_each_other(engine):
    with writing(engine) as connection:
        claim = running(connection)
        for second in (0, 25, 50):
            queue.reap(connection, now=after(second), lease=LEASE, max_attempts=MAX_ATTEMPTS)
    with writing(engine) as connection:
        runs.fence(connection, claim.run.id, 1)
        with writing(engine) as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            assert queue.reap(other, now=after(65), lease=LEASE, max_attempts=9) == []
        queue.renew(connection, claim.run.id, 1, now=after(66), lease=LEASE)
    with writing(engine) as connection:
        assert queue.reap(connection, now=after(80), lease=LEASE, max_attempts=9) == []


def test_the_reaper_leaves_a_run_alone_while_somebody_holds_its_follower(engine):
    with writing(engine) as connection:
        claim = running(connection)
        follower = queued(connection, after=[claim.run.id], now=after(1))
        for second in (0, 25, 50):
            queue.reap(connection, now=after(second), lease=LEASE, max_attempts=MAX_ATTEMPTS)
    with writing(engine) as connection:
        runs.locked(connection, follower.id)
        with writing(engine) as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            assert queue.reap(other, now=after(65), lease=LEASE, max_attempts=1) == []
            queue.renew(other, claim.run.id, 1, now=after(4), lease=LEASE)
    with writing(engine) as connection:
        (lost,) = queue.reap(connection, now=after(80), lease=LEASE, max_attempts=1)
        assert lost.outcome is RunState.FAILED
        assert runs.get(connection, follower.id).state is RunState.FAILED


def test_a_worker_that_comes_back_waits_for_who_is_at_its_runs(engine):
    with writing(engine) as connection:
        claim = running(connection)

    def recover(connection: Connection) -> None:
        (lost,) = queue.recover(connection, worker="w1", now=after(5), max_attempts=MAX_ATTEMPTS)
        assert lost.run_id == claim.run.id

    with ExitStack() as beside, writing(engine) as connection:
        runs.fence(connection, claim.run.id, 1)
        beside.enter_context(meanwhile(engine, recover))
        until_it_waits(engine)
        queue.renew(connection, claim.run.id, 1, now=NOW, lease=LEASE)
