"""The worker as it is deployed: a real `celery worker`, a real broker, real training."""

import os
import signal
import time

import pytest
import redis
from celery import Celery

from domain.run_state import RunState
from store import artifacts, fleet, history, logs, metrics
from store.engine import reading
from tests.store.databases import fresh_engine
from tests.waiting import until
from tests.worker.lab import TINY, at_step, ended, look, submit, working
from tests.worker.processes import broker, celery_worker
from tests.worker.test_supervision import child_of, gone

SMALL = {
    "preset": "standard",
    "data": {"dataset": "digits", "train_limit": 64, "test_limit": 16},
    "training": {"epochs": 1, "batch_size": 64},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}
LONG = {**TINY, "training": {"epochs": 60, "batch_size": 64}}


def test_a_killed_worker_takes_up_its_own_run_again_without_waiting_for_the_lease(
    sqlite_engine, tmp_path
):
    engine = sqlite_engine
    run_id = submit(engine, LONG)
    for attempt in (1, 2):
        with celery_worker(engine, tmp_path, lease_seconds=300) as worker:
            until(lambda n=attempt: look(engine, run_id).attempt == n, seconds=30)
            if attempt == 1:
                until(at_step(engine, run_id, 3))
            worker.process.kill()
    reasons = [event.reason for event in everything(engine, run_id)[2]]
    assert any("lease of celery lost" in reason for reason in reasons)


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory):
    with broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


def ring(url):
    with Celery("tests", broker=url, set_as_current=False) as app:
        app.send_task("partlab.doorbell", queue="doorbell", ignore_result=True)


def is_registered(engine):
    def holds():
        with reading(engine) as connection:
            return bool(fleet.all_workers(connection))

    return holds


def everything(engine, run_id):
    """All that the store keeps of a run."""
    with reading(engine) as connection:
        return (
            look(engine, run_id),
            artifacts.listing(connection, run_id),
            history.events(connection, run_id),
            logs.tail(connection, run_id),
            [
                metrics.history(connection, run_id, s.name)
                for s in metrics.summary(connection, run_id)
            ],
        )


def test_a_message_wakes_the_worker_at_once_before_and_after_a_flush(
    sqlite_engine, tmp_path, broker_url
):
    engine = sqlite_engine
    with celery_worker(engine, tmp_path, broker_url=broker_url, poll_seconds=300) as worker:
        until(is_registered(engine), seconds=30)
        until(lambda: "ready" in worker.text(), seconds=30)
        took = []
        for _ in range(2):
            started = time.monotonic()
            run_id = submit(engine, SMALL)
            ring(broker_url)
            until(lambda run_id=run_id: look(engine, run_id).state is not RunState.QUEUED)
            took.append(time.monotonic() - started)
            assert ended(engine, run_id).state is RunState.SUCCEEDED
            with redis.Redis.from_url(broker_url) as client:
                client.flushall()
        assert max(took) < 3, took
        assert worker.stop() < 10
        assert worker.process.returncode == 0


def test_without_a_broker_runs_start_by_polling_and_the_worker_still_stops(sqlite_engine, tmp_path):
    engine = sqlite_engine
    run_id = submit(engine, LONG)
    nowhere = "redis://:secret-of-the-broker@127.0.0.1:9/0"
    with celery_worker(engine, tmp_path, broker_url=nowhere) as worker:
        until(at_step(engine, run_id, 3))
        assert worker.stop() < 15
        assert "secret-of-the-broker" not in worker.text()
    row = look(engine, run_id)
    assert row.state is RunState.QUEUED
    with reading(engine) as connection:
        assert artifacts.checkpoint(connection, run_id, "last").step >= 3


def test_a_worker_killed_or_frozen_in_mid_training_changes_nothing(tmp_path, broker_url):
    """One worker is killed, the next frozen past its lease and thawed; a third one finishes."""
    with fresh_engine("postgresql") as engine:
        _kill_then_freeze(engine, tmp_path, broker_url)


def _kill_then_freeze(engine, tmp_path, broker_url):
    body = {**TINY, "training": {"epochs": 24, "batch_size": 64}}
    shared = {"broker_url": broker_url, "artifacts_url": str(tmp_path / "artifacts")}
    killed = submit(engine, body)
    with celery_worker(engine, tmp_path / "a", worker_name="a", **shared) as first:
        until(at_step(engine, killed, 5))
        child = child_of(engine, killed)
        first.process.kill()
        until(lambda: gone(child), seconds=5)
    with celery_worker(engine, tmp_path / "b", worker_name="b", **shared) as second:
        until(at_step(engine, killed, 12))
        child = child_of(engine, killed)
        for process in (second.process.pid, child):
            os.kill(process, signal.SIGSTOP)
        with working(engine, tmp_path / "c", worker_name="c", **shared):
            row = ended(engine, killed)
            assert (row.state, row.attempt, row.worker) == (RunState.SUCCEEDED, 3, "c")
            before = everything(engine, killed)
            for process in (child, second.process.pid):
                os.kill(process, signal.SIGCONT)
            until(lambda: gone(child), seconds=10)
        until(lambda: "attempt 2: lease lost" in second.text(), seconds=10)
        assert everything(engine, killed) == before
    steps = before[-1][-1][0]
    assert steps == sorted(set(steps)), "metrics have doubles"
