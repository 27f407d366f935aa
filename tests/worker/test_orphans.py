"""What a killed worker leaves: processes its children forked, and its name."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from domain.run_state import RunState
from store import checkup, fleet
from store.engine import database_now, reading, writing
from store.rows import SlotSpec
from tests.waiting import until
from tests.worker.lab import look
from tests.worker.test_supervision import odd, odd_worker
from worker import host, orphans
from worker.orphans import MARK


@contextmanager
def sleeper(**environment):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_only_what_is_left_of_these_attempts_is_ended(tmp_path):
    work = tmp_path / "work"
    with (
        sleeper(**{MARK: str(work / "run-1")}) as mine,
        sleeper(**{MARK: str(work / "run-2")}) as others,
        sleeper(**{MARK: str(tmp_path / "elsewhere" / "run-1")}) as elsewhere,
    ):
        until(lambda: {name for _, name in orphans.find(work)} == {"run-1", "run-2"})
        orphans.end(work, {"run-1"})
        mine.wait(timeout=10)
        assert others.poll() is None
        assert elsewhere.poll() is None


def register(engine, *, host, pid):
    with writing(engine) as connection:
        fleet.register_worker(
            connection,
            name="tests",
            host=host,
            pid=pid,
            offered=[SlotSpec("cpu", 0, "CPU", 0, "cpu")],
            now=database_now(connection),
        )


def pid_of_worker(engine):
    with reading(engine) as connection:
        return fleet.all_workers(connection)[0].pid


def test_a_second_worker_of_one_name_stands_by_until_the_first_has_ended(
    sqlite_engine, tmp_path, caplog
):
    run_id = odd(sqlite_engine, "obedient")
    with sleeper() as first:
        register(sqlite_engine, host=socket.gethostname(), pid=first.pid)
        with odd_worker(sqlite_engine, tmp_path, lease_seconds=300):
            until(lambda: "another worker named tests is at work" in caplog.text)
            assert look(sqlite_engine, run_id).state is RunState.QUEUED
            assert pid_of_worker(sqlite_engine) == first.pid
            first.kill()
            first.wait()
            until(lambda: look(sqlite_engine, run_id).state is RunState.SUCCEEDED)
    assert pid_of_worker(sqlite_engine) == fleet.SIGNED_OFF


@pytest.mark.parametrize("pid", [4711, fleet.SIGNED_OFF])
def test_a_name_of_another_host_is_free_when_it_was_signed_off_or_not_seen_for_a_lease(
    sqlite_engine, tmp_path, pid
):
    register(sqlite_engine, host="elsewhere", pid=pid)
    lease = 4 if pid else 300
    with odd_worker(sqlite_engine, tmp_path, lease_seconds=lease):
        until(lambda: pid_of_worker(sqlite_engine) == os.getpid(), seconds=30)


def vitals(engine):
    with reading(engine) as connection:
        hosts = checkup.hosts(connection, database_now(connection))
    return [host for host in hosts if host.disk is not None]


def test_a_worker_tells_what_it_sees_of_its_host(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path):
        until(lambda: vitals(sqlite_engine))
    (seen,) = vitals(sqlite_engine)
    assert abs(seen.clock_skew) < 30
    assert seen.disk.total == shutil.disk_usage(tmp_path).total
    assert seen.orphans == 0


def test_a_worker_ends_what_an_ended_attempt_left_and_nothing_else(
    sqlite_engine, tmp_path, monkeypatch
):
    """A process that left its group is not killed with it, but found later by its mark."""
    monkeypatch.setattr(host, "VITALS_SECONDS", 0.2)
    with odd_worker(sqlite_engine, tmp_path):
        run_id = odd(sqlite_engine, "obedient")
        until(lambda: look(sqlite_engine, run_id).state is RunState.SUCCEEDED)
        work = tmp_path.resolve() / "work"
        with (
            sleeper(**{MARK: str(work / f"{run_id}-1")}) as left,
            sleeper(**{MARK: str(work / "nobodys-1")}) as unknown,
        ):
            left.wait(timeout=30)
            assert unknown.poll() is None
