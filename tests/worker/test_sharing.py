"""Runs that give way, wait and train on several slots, through real children."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

from domain.run_state import RunState
from store import history, ledger, logs, metrics, queue
from store.engine import reading, writing
from tests.store.databases import NOW
from tests.waiting import until
from tests.worker.lab import TINY, at_step, ended, look, resumed, submit, weights, working

BODY: dict[str, Any] = {
    **TINY,
    "training": {"epochs": 32, "batch_size": 64, "checkpoint_every": 1000},
    "evaluation": {"attacks": [{"kind": "pgd", "steps": 2}]},
}
"""Six seconds of training on one quiet core: cut in its first, it is far from its end."""
SHORT: dict[str, Any] = {**BODY, "training": {"epochs": 1, "batch_size": 64}}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sharing-state")


def hold(engine: Engine, run_id: str, *, held: bool) -> None:
    with writing(engine) as connection:
        queue.hold(connection, run_id, held=held, now=datetime.now(UTC), actor="ada")


def series(engine: Engine, run_id: str) -> dict[str, object]:
    with reading(engine) as connection:
        names = [s.name for s in metrics.summary(connection, run_id)]
        return {name: metrics.history(connection, run_id, name) for name in names}


def test_who_gives_way_and_who_is_paused_end_in_the_same_bits(sqlite_engine, state):
    engine = sqlite_engine
    with working(engine, state):
        undisturbed = submit(engine, BODY)
        assert ended(engine, undisturbed).state is RunState.SUCCEEDED
        disturbed = submit(engine, BODY)
        until(at_step(engine, disturbed, 1))
        urgent = submit(engine, SHORT, priority=10)
        until(lambda: look(engine, urgent).state is RunState.RUNNING)
        assert look(engine, disturbed).state is RunState.QUEUED
        assert ended(engine, urgent).state is RunState.SUCCEEDED
        until(lambda: resumed(engine, disturbed))
        hold(engine, disturbed, held=True)
        until(lambda: look(engine, disturbed).state is RunState.QUEUED)
        passed_by = submit(engine, SHORT)
        assert ended(engine, passed_by).state is RunState.SUCCEEDED
        assert look(engine, disturbed).state is RunState.QUEUED
        hold(engine, disturbed, held=False)
        row = ended(engine, disturbed)
    assert row.state is RunState.SUCCEEDED, row.failure
    assert (row.attempt, row.losses) == (3, 0)
    assert weights(engine, disturbed) == weights(engine, undisturbed)
    assert series(engine, disturbed) == series(engine, undisturbed)
    with reading(engine) as connection:
        reasons = " ".join(e.reason for e in history.events(connection, disturbed))
        cost = ledger.ledger(connection, by="user", now=NOW)
    assert "gave way to a run that comes before it, after a checkpoint" in reasons
    assert "paused, after a checkpoint" in reasons
    assert len(resumed(engine, disturbed)) == 2
    (paid,) = cost
    assert paid.wasted < paid.useful / 2, "only what an attempt took to end after its checkpoint"


def mates_of(run_id: str) -> list[psutil.Process]:
    """The ranks above 0 of a run."""
    children = psutil.Process().children(recursive=True)
    return [process for process in children if is_mate(process, run_id)]


def is_mate(process: psutil.Process, run_id: str) -> bool:
    """Whether a process is such a rank; one that is ending is not."""
    with suppress(psutil.Error):
        words = process.cmdline()
        return "worker.mate" in words and any(run_id in word for word in words)
    return False


def test_several_slots_train_one_network_and_a_rank_that_dies_is_a_lost_attempt(
    sqlite_engine, state
):
    engine = sqlite_engine
    body = {**BODY, "resources": {"cpu_slots": 2}}
    with working(engine, state, cpu_slots=2):
        undisturbed = submit(engine, body)
        row = ended(engine, undisturbed)
        assert row.state is RunState.SUCCEEDED, row.failure
        assert row.facts["ranks"] == 2
        disturbed = submit(engine, body)
        until(at_step(engine, disturbed, 1))
        (mate,) = mates_of(disturbed)
        mate.kill()
        row = ended(engine, disturbed)
        assert mates_of(disturbed) == []
    assert row.state is RunState.SUCCEEDED, row.failure
    assert (row.attempt, row.losses) == (2, 1)
    with reading(engine) as connection:
        lines = [line.message for line in logs.tail(connection, disturbed)]
        reasons = [e.reason for e in history.events(connection, disturbed)]
    assert any("rank 1: the training process was ended by SIGKILL" in line for line in lines)
    assert any("lost one of its ranks" in reason for reason in reasons)
    assert weights(engine, disturbed) == weights(engine, undisturbed)
