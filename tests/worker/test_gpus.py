"""What a worker does when it cannot see who uses its GPUs."""

import time
from itertools import pairwise

import pytest

from domain.run_state import RunState
from store import fleet
from store.engine import reading
from tests.waiting import until
from tests.worker.lab import ended
from tests.worker.test_supervision import odd, odd_worker
from worker import dispatcher, gpus, host


def slot(engine):
    with reading(engine) as connection:
        return fleet.all_workers(connection)[0].slots[0]


def test_not_looked_changes_nothing_that_is_known(sqlite_engine, tmp_path, monkeypatch):
    told = [{0: "process 7, train"}]
    looks = []

    def look(_own):
        looks.append(told[0])
        return told[0]

    monkeypatch.setattr(host, "GPU_SECONDS", 0.0)
    monkeypatch.setattr(gpus, "foreign_use", look)
    with odd_worker(sqlite_engine, tmp_path, gpu_slots=1):
        until(lambda: looks and slot(sqlite_engine).foreign_use, seconds=20)
        told[0] = None
        until(lambda: looks[-3:] == [None] * 3, seconds=20)
        assert slot(sqlite_engine).foreign_use == "process 7, train"
        told[0] = {}
        until(lambda: slot(sqlite_engine).foreign_use is None, seconds=20)


def test_a_worker_says_that_it_lives_and_reaps_before_it_looks(
    sqlite_engine, tmp_path, monkeypatch
):
    done = []
    alive, reap = fleet.worker_alive, dispatcher.reap
    monkeypatch.setattr(
        fleet, "worker_alive", lambda *a, **n: done.append("alive") or alive(*a, **n)
    )
    monkeypatch.setattr(dispatcher, "reap", lambda *a: done.append("reap") or reap(*a))
    monkeypatch.setattr(gpus, "foreign_use", lambda _: done.append("look"))
    with odd_worker(sqlite_engine, tmp_path, gpu_slots=1):
        until(lambda: "look" in done, seconds=20)
    assert done[:3] == ["alive", "reap", "look"]


@pytest.mark.parametrize("answer", [None, OSError("no driver")])
def test_between_two_slow_looks_there_is_time_to_work(sqlite_engine, tmp_path, monkeypatch, answer):
    looks = []

    def slow(_own):
        begun = time.monotonic()
        time.sleep(1.2)
        looks.append((begun, time.monotonic()))
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(host, "GPU_SECONDS", 1.0)
    monkeypatch.setattr(gpus, "foreign_use", slow)
    with odd_worker(sqlite_engine, tmp_path, gpu_slots=1):
        row = ended(sqlite_engine, odd(sqlite_engine, "obedient", resources={"cpu_slots": 1}))
        until(lambda: len(looks) > 2, seconds=30)
    assert row.state is RunState.SUCCEEDED
    pauses = [after[0] - before[1] for before, after in pairwise(looks)]
    assert min(pauses) >= 1.0
