"""Interpreters on standby: the same attempt, begun sooner."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from domain.run_state import RunState
from tests.store.databases import fresh_engine
from tests.waiting import until
from tests.worker.lab import TINY, at_step, ended, submit, weights, working
from tests.worker.test_supervision import odd, odd_worker, reasons, running
from worker import orphans, standby


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Look often, and call a host calm at once."""
    monkeypatch.setattr(standby, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(standby, "CALM_SECONDS", 0.0)


def ready(dispatcher, count=1):
    """Wait until so many interpreters wait; return their process ids."""

    def pids():
        with dispatcher._standby._lock:
            return [r.child.process.pid for r in dispatcher._standby._ready]

    until(lambda: len(pids()) == count)
    return pids()


def test_an_attempt_takes_one_and_another_takes_its_place(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path, standby=None) as dispatcher:
        (first,) = ready(dispatcher)
        run_id = odd(sqlite_engine, "obedient")
        row = ended(sqlite_engine, run_id)
        assert row.state is RunState.SUCCEEDED
        assert dispatcher._standby.memory() > 0
        (second,) = ready(dispatcher)
        assert second != first
        until(lambda: not psutil.pid_exists(first))
    assert not psutil.pid_exists(second), "none outlives its worker"


def test_the_environment_is_that_of_a_cold_start(sqlite_engine, tmp_path):
    told = []
    for kept in (0, 1):
        with odd_worker(sqlite_engine, tmp_path, standby=kept) as dispatcher:
            ready(dispatcher, kept)
            told.append(ended(sqlite_engine, odd(sqlite_engine, "obedient")).summary["environment"])
    assert told[0] == told[1]


def test_what_it_forks_is_known_as_its_attempts(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path, standby=1) as dispatcher:
        (pid,) = ready(dispatcher)
        run_id = odd(sqlite_engine, "endless")
        until(running(sqlite_engine, run_id))
        work = dispatcher._settings.work_folder
        assert {f"{run_id}-1"} == {
            name for process, name in orphans.find(work) if process.pid == pid
        }


def test_one_that_was_killed_is_passed_over(sqlite_engine, tmp_path, monkeypatch):
    with odd_worker(sqlite_engine, tmp_path, standby=1) as dispatcher:
        (pid,) = ready(dispatcher)
        monkeypatch.setattr(standby, "LOOK_SECONDS", 60)
        os.kill(pid, signal.SIGKILL)
        row = ended(sqlite_engine, odd(sqlite_engine, "obedient"))
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 1)


def test_none_is_kept_while_memory_is_short(sqlite_engine, tmp_path, monkeypatch):
    left = [standby.ROOM]
    monkeypatch.setattr(standby, "available_memory", lambda: left[0])
    with odd_worker(sqlite_engine, tmp_path, standby=1) as dispatcher:
        (pid,) = ready(dispatcher)
        left[0] = standby.NEED - 1
        ready(dispatcher, 0)
        until(lambda: not psutil.pid_exists(pid))
        assert ended(sqlite_engine, odd(sqlite_engine, "obedient")).state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("most", "used", "expected"), [("max", "5", None), ("3000", "1000", 2000), ("x", "y", None)]
)
def test_a_containers_memory_counts(tmp_path, monkeypatch, most, used, expected):
    (tmp_path / "memory.max").write_text(most)
    (tmp_path / "memory.current").write_text(used)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 9000}))
    assert standby.available_memory(tmp_path) == (9000 if expected is None else expected)
    assert standby.available_memory(Path("nowhere")) == 9000


def test_training_killed_and_resumed_on_standby_ends_in_the_bits_of_a_cold_start(tmp_path):
    body = {**TINY, "training": {"epochs": 14, "batch_size": 64}}
    with fresh_engine("sqlite") as engine:
        with working(engine, tmp_path):
            cold = submit(engine, body)
            assert ended(engine, cold).state is RunState.SUCCEEDED
        with working(engine, tmp_path, standby=1) as dispatcher:
            (pid,) = ready(dispatcher)
            killed = submit(engine, body)
            until(at_step(engine, killed, 4))
            ready(dispatcher)  # for the next attempt
            os.kill(pid, signal.SIGKILL)
            row = ended(engine, killed)
        assert (row.state, row.attempt) == (RunState.SUCCEEDED, 2), row.failure
        assert weights(engine, killed) == weights(engine, cold)
        assert "SIGKILL" in " ".join(reasons(engine, killed))
