"""The worker as it is deployed: a real `celery worker`, a real broker, real training."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
import redis
from celery import Celery
from celery.utils.nodenames import worker_direct

from domain.run_state import RunState
from partlab.embedded.parts import free_port
from store import artifacts, fleet, history, logs, metrics
from store.engine import reading
from tests.store.databases import fresh_engine
from tests.waiting import until
from tests.worker.lab import TINY, at_step, ended, look, submit, working
from tests.worker.processes import broker, celery_worker
from tests.worker.test_supervision import ask_to_cancel, child_of, gone

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


@contextmanager
def operator(url):
    """Celery's own tools, as an operator's shell has them."""
    with Celery("tests", broker=url, set_as_current=False) as app:
        yield app


def wake(url, *runs):
    with operator(url) as app:
        app.control.broadcast("wake", arguments={"runs": list(runs)})


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
            wake(broker_url)
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


# -- what an operator sees and says, with Celery's own tools -----------------------------------

SELDOM = {"poll_seconds": 300, "renew_seconds": 300, "lease_seconds": 900}
"""Of a worker that hears of nothing but messages. A broker needs a name for each of its workers."""


@pytest.fixture(scope="module")
def host(tmp_path_factory, broker_url):
    """The database and the worker of a host that is seldom looked at."""
    state = tmp_path_factory.mktemp("host")
    with (
        fresh_engine("sqlite") as engine,
        celery_worker(engine, state, worker_name="host", broker_url=broker_url, **SELDOM) as worker,
    ):
        until(lambda: "ready" in worker.text(), seconds=60)
        yield engine, worker


@pytest.fixture
def busy(host, broker_url):
    """That database with a long run in training."""
    engine, _ = host
    run_id = trains(engine, broker_url)
    yield engine, run_id
    if not look(engine, run_id).state.is_terminal:
        cancel(engine, broker_url, run_id)


def trains(engine, broker_url):
    run_id = submit(engine, LONG)
    wake(broker_url)
    until(at_step(engine, run_id, 5))
    return run_id


def cancel(engine, broker_url, run_id):
    ask_to_cancel(engine, run_id)
    wake(broker_url, run_id)
    assert ended(engine, run_id).state is RunState.CANCELLED


def inspected(url, command):
    with operator(url) as app:
        (answer,) = app.control.inspect(timeout=5)._request(command).items()
    return answer


def test_an_attempt_is_a_task_of_its_own_with_run_attempt_and_slots(busy, broker_url):
    _, run_id = busy
    node, (task,) = inspected(broker_url, "active")
    assert node == "celery@host", "the worker's name"
    assert (task["name"], task["args"]) == ("partlab.run_attempt", [run_id, 1, ["cpu 0"]])
    assert 0 < time.time() - task["time_start"] < 300
    _, (attempt,) = inspected(broker_url, "attempts")
    assert (attempt["run"], attempt["attempt"], attempt["slots"]) == (run_id, 1, ["cpu 0"])
    assert attempt["phase"] in ("train", "validate")
    assert 0 < attempt["done"] <= attempt["total"]
    assert 0 < attempt["lease_seconds"] <= 900


def test_a_wake_carries_a_cancel_to_its_host_at_once(busy, broker_url):
    """Neither the next poll nor the next renewal is within five minutes."""
    cancel(busy[0], broker_url, busy[1])


def test_a_wake_makes_room_for_a_run_that_comes_before(busy, broker_url):
    """The planner itself tells the host of the run that gives way."""
    engine, run_id = busy
    urgent = submit(engine, SMALL, priority=10)
    wake(broker_url)
    assert ended(engine, urgent).state is RunState.SUCCEEDED
    until(lambda: look(engine, run_id).attempt == 2)


def test_messages_that_are_doubled_late_or_made_up_cost_nothing(busy, broker_url):
    engine, run_id = busy
    waiting = submit(engine, SMALL)
    with operator(broker_url) as app:
        for words in (
            [run_id, 1, []],
            [run_id, 2, []],
            [waiting, 1, []],
            [waiting, 7, []],
            ["0" * 18, 1, []],
        ):
            app.send_task("partlab.run_attempt", words, queue=worker_direct("celery@host"))
        app.send_task("partlab.run_attempt", ["nonsense"], queue=worker_direct("celery@host"))
        app.control.broadcast("wake", arguments={"runs": [1, None, {"a": 2}]})
        app.control.broadcast("wake", arguments={"what": "is this"})
    _, tasks = inspected(broker_url, "active")
    assert [task["args"][:2] for task in tasks] == [[run_id, 1]]
    assert look(engine, waiting).state is RunState.QUEUED
    cancel(engine, broker_url, run_id)
    row = ended(engine, waiting)
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 1), "started by the end of the other"
    assert look(engine, run_id).attempt == 1


def test_a_drain_is_one_command_away(busy, broker_url):
    engine, run_id = busy
    with operator(broker_url) as app:
        app.control.broadcast("drain")
        until(lambda: is_draining(engine))
        waiting = submit(engine, SMALL)
        cancel(engine, broker_url, run_id)
        _, left = inspected(broker_url, "attempts")
        assert left == []
        assert look(engine, waiting).state is RunState.QUEUED
        app.control.broadcast("undrain")
    assert ended(engine, waiting).state is RunState.SUCCEEDED


def is_draining(engine):
    with reading(engine) as connection:
        return fleet.all_workers(connection)[0].draining


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_a_shutdown_hands_back_what_a_pool_would_wait_for(
    sqlite_engine, tmp_path, broker_url, number
):
    engine = sqlite_engine
    with celery_worker(
        engine, tmp_path, worker_name="stopping", broker_url=broker_url, **SELDOM
    ) as worker:
        until(lambda: "ready" in worker.text(), seconds=60)
        run_id = trains(engine, broker_url)
        child = child_of(engine, run_id)
        worker.process.send_signal(number)
        assert worker.process.wait(timeout=40) == 0
        assert gone(child)
        assert "Traceback" not in worker.text()
    row = look(engine, run_id)
    assert (row.state, row.losses) == (RunState.QUEUED, 0)
    with reading(engine) as connection:
        assert artifacts.checkpoint(connection, run_id, "last").step >= 5


def test_what_is_purged_from_a_workers_queue_starts_all_the_same(
    sqlite_engine, tmp_path, broker_url
):
    """A message that nobody gets is made up for after two polls."""
    with celery_worker(
        sqlite_engine, tmp_path, worker_name="deaf", broker_url=broker_url
    ) as worker:
        until(lambda: "ready" in worker.text(), seconds=60)
        with operator(broker_url) as app:
            app.control.cancel_consumer(worker_direct("celery@deaf").name, reply=True)
        run_id = submit(sqlite_engine, SMALL)
        wake(broker_url)
        assert ended(sqlite_engine, run_id).state is RunState.SUCCEEDED


def test_flower_shows_the_attempt(busy, broker_url, tmp_path):
    """The command of docs/guide.md, with the real package."""
    _, run_id = busy
    port = free_port()
    command = ("-m", "celery", "--app", "worker.app", "flower", "--address=127.0.0.1")
    with (tmp_path / "flower.log").open("wb") as log:
        flower = subprocess.Popen(
            [sys.executable, *command, f"--port={port}"],
            env={**os.environ, "PARTLAB_BROKER_URL": broker_url, "PYTHONSAFEPATH": "1"},
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        page = f"http://127.0.0.1:{port}"
        until(lambda: "celery@host" in shown(f"{page}/workers?refresh=1"), seconds=60)
        until(lambda: run_id in shown(f"{page}/worker/celery@host"), seconds=30)
    finally:
        flower.terminate()
        flower.wait(timeout=20)


def shown(url):
    try:
        return httpx.get(url, timeout=10).text
    except httpx.TransportError:
        return ""
