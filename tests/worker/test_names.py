"""One worker a name: when a name is taken, and what the one that lost it does."""

import os
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from domain.run_state import RunState
from store import fleet, queue
from store.engine import database_now, reading, writing
from store.tables import slots, workers
from tests.waiting import until
from tests.worker.lab import look, settings, submit
from tests.worker.test_orphans import pid_of_worker, register, sleeper
from tests.worker.test_supervision import child_of, gone, odd, odd_worker, running
from worker.reaper import is_taken

HERE = socket.gethostname()
LEASE = timedelta(seconds=60)
LONG_AGO = timedelta(hours=1)


def change(engine, table, **values):
    with writing(engine) as connection:
        connection.execute(table.update().values(**values))


def moment(engine, ago=timedelta(0)):
    with reading(engine) as connection:
        return database_now(connection) - ago


def taken(engine, state):
    with writing(engine) as connection:
        return is_taken(connection, settings(engine, state))


def test_a_worker_of_this_host_has_its_name_while_it_lives_however_silent(sqlite_engine, tmp_path):
    """It may be frozen, or hang in a driver: its children live, and it goes on one day."""
    with sleeper() as first:
        register(sqlite_engine, host=HERE, pid=first.pid)
        change(sqlite_engine, workers, seen_at=moment(sqlite_engine, LONG_AGO))
        assert taken(sqlite_engine, tmp_path)
        first.kill()
        first.wait()
        assert not taken(sqlite_engine, tmp_path)


def test_another_process_of_a_dead_workers_id_is_not_that_worker(sqlite_engine, tmp_path):
    with sleeper() as other:
        register(sqlite_engine, host=HERE, pid=other.pid)
        before = moment(sqlite_engine, LONG_AGO)
        change(sqlite_engine, workers, started_at=before, seen_at=before)
        assert not taken(sqlite_engine, tmp_path)


def test_a_worker_that_ended_and_was_not_waited_for_is_dead(sqlite_engine, tmp_path):
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: gone(zombie.pid))
    register(sqlite_engine, host=HERE, pid=zombie.pid)
    assert not taken(sqlite_engine, tmp_path)
    zombie.wait()


def test_the_own_process_id_is_that_of_a_container_before(sqlite_engine, tmp_path):
    register(sqlite_engine, host=HERE, pid=os.getpid())
    assert not taken(sqlite_engine, tmp_path)


@pytest.mark.parametrize(("ago", "expected"), [(0, True), (3600, False)])
def test_of_another_host_only_its_last_word_is_known(sqlite_engine, tmp_path, ago, expected):
    register(sqlite_engine, host="elsewhere", pid=4711)
    change(sqlite_engine, workers, seen_at=moment(sqlite_engine, timedelta(seconds=ago)))
    assert taken(sqlite_engine, tmp_path) is expected


def test_who_lost_a_name_says_nothing_in_it(engine):
    register(engine, host=HERE, pid=4711)
    change(engine, slots, unconfirmed=True)
    before = moment(engine, LONG_AGO)
    change(engine, workers, seen_at=before)
    with writing(engine) as connection:
        alive = {"busy_slots": (), "now": database_now(connection)}
        assert not fleet.worker_alive(connection, "tests", pid=4712, **alive)
        (worker,) = fleet.all_workers(connection)
        assert (worker.seen_at, worker.slots[0].unconfirmed) == (before, True)
        assert fleet.worker_alive(connection, "tests", pid=4711, **alive)
        (worker,) = fleet.all_workers(connection)
        assert (worker.seen_at, worker.slots[0].unconfirmed) == (alive["now"], False)
        assert fleet.worker_alive(connection, "tests", **alive), "no process id: not compared"


def test_what_holds_a_lease_was_not_left_behind(engine):
    register(engine, host=HERE, pid=4711)
    run_id = submit(engine)
    with writing(engine) as connection:
        now = database_now(connection)
        assert queue.claim(connection, worker="tests", now=now, lease=LEASE) is not None
        assert fleet.attempts_on(connection, "tests", {f"{run_id}-1"}) == set()
        queue.requeue(connection, run_id, 1, now=now, reason="lost", max_attempts=5)
        assert fleet.attempts_on(connection, "tests", {f"{run_id}-1", "x-1"}) == {f"{run_id}-1"}


def test_a_worker_whose_name_is_taken_over_stands_down_and_keeps_its_runs(
    sqlite_engine, tmp_path, caplog
):
    """It claims nothing more, touches no slot of the other's, and is back when that has ended."""
    engine = sqlite_engine
    with odd_worker(engine, tmp_path, cpu_slots=2), sleeper() as other:
        run_id = odd(engine, "endless")
        until(running(engine, run_id))
        child = child_of(engine, run_id)
        with writing(engine) as connection:
            now = database_now(connection)
            connection.execute(workers.update().values(pid=other.pid, started_at=now))
            free = slots.c.ordinal == 1
            connection.execute(slots.update().where(free).values(unconfirmed=True))
        until(lambda: "another worker named tests is at work" in caplog.text, seconds=10)
        waiting = odd(engine, "obedient")
        time.sleep(1)
        with reading(engine) as connection:
            views = fleet.all_workers(connection)[0].slots
        assert [view.unconfirmed for view in views] == [False, True]
        assert look(engine, waiting).state is RunState.QUEUED
        other.kill()
        other.wait()
        until(lambda: pid_of_worker(engine) == os.getpid(), seconds=20)
        until(lambda: look(engine, waiting).state is RunState.SUCCEEDED, seconds=20)
        assert (look(engine, run_id).attempt, gone(child)) == (1, False)
