"""Whoever ends an attempt, the run's log says why; and one clock says how long runs took."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from domain.run_state import RunState
from store import logs, queue, running_time, runs
from store.engine import reading, writing
from store.tables import families
from tests.store.databases import LEASE, NOW, after
from tests.store.making import claimed, queued, running

Scenario = Callable[[Connection], str]
OUT_OF_MEMORY = {"failure_class": "out-of-memory", "code": "cuda", "message": "4 GiB too few"}


def end(
    connection: Connection, run_id: str, to: RunState, seconds: float, **columns: object
) -> str:
    how = {"now": after(seconds), "reason": "it ended", "columns": columns}
    runs.transition(connection, run_id, to=to, **how)
    return run_id


def succeeds(connection: Connection) -> str:
    return end(connection, running(connection).run.id, RunState.SUCCEEDED, 90)


def fails(connection: Connection) -> str:
    run_id = running(connection).run.id
    return end(connection, run_id, RunState.FAILED, 30, failure=OUT_OF_MEMORY)


def is_cancelled_while_it_runs(connection: Connection) -> str:
    run_id = running(connection).run.id
    runs.request_cancel(connection, run_id, now=NOW, actor="bob")
    return end(connection, run_id, RunState.CANCELLED, 30)


def is_cancelled_while_it_waits(connection: Connection) -> str:
    run_id = queued(connection).id
    runs.request_cancel(connection, run_id, now=NOW, actor="bob")
    return run_id


def loses_its_worker(connection: Connection) -> str:
    run_id = running(connection).run.id
    for seconds in (1, 30, 59, 88, 117):
        queue.reap(connection, now=after(seconds), lease=LEASE, max_attempts=3)
    return run_id


def is_paused(connection: Connection) -> str:
    run_id = running(connection).run.id
    queue.hold(connection, run_id, held=True, now=NOW, actor="ada")
    reason = "paused, after a checkpoint"
    queue.hand_back(connection, run_id, 1, now=NOW, reason=reason, ending="gave-way")
    return run_id


def follows_one_that_failed(connection: Connection) -> str:
    first = running(connection).run.id
    run_id = queued(connection, after=[first], now=after(1)).id
    end(connection, first, RunState.FAILED, 30, failure=OUT_OF_MEMORY)
    return run_id


@pytest.mark.parametrize(
    ("scenario", "level", "says"),
    [
        (succeeds, "info", "succeeded after 1 min 30 s"),
        (fails, "error", "failed after 30.0 s: out-of-memory: 4 GiB too few"),
        (is_cancelled_while_it_runs, "warning", "cancelled by bob after 30.0 s"),
        (is_cancelled_while_it_waits, "warning", "cancelled by bob"),
        (loses_its_worker, "warning", "attempt 1 ended: lease of w1 lost; attempt 2 may start"),
        (is_paused, "info", "attempt 1 ended: paused, after a checkpoint"),
        (follows_one_that_failed, "error", "failed: dependency: run"),
    ],
)
def test_the_last_line_says_why_it_ended(engine, scenario, level, says):
    with writing(engine) as connection:
        run_id = scenario(connection)
    with reading(engine) as connection:
        last = logs.tail(connection, run_id)[-1]
    assert (last.level, last.message[: len(says)]) == (level, says)


def test_a_persons_wishes_are_in_the_log(sqlite_engine):
    with writing(sqlite_engine) as connection:
        run_id = running(connection).run.id
        queue.hold(connection, run_id, held=True, now=NOW, actor="ada")
        queue.hold(connection, run_id, held=False, now=NOW, actor="bob")
        runs.request_cancel(connection, run_id, now=NOW, actor="root")
        lines = [line.message for line in logs.tail(connection, run_id)]
    assert lines == ["paused by ada", "resumed by bob", "asked by root to stop"]


def test_a_run_took_what_its_attempts_took(engine):
    """Not what lay between them; and forecasts learn the same number."""
    with writing(engine) as connection:
        run = running(connection).run
        waiting = queued(connection, now=after(1))
        queue.hand_back(connection, run.id, 1, now=after(20), reason="")
        assert running_time.took(connection, [run.id, waiting.id], after(500)) == {run.id: 20.0}
        assert claimed(connection, now=after(1000)).run.id == run.id
        assert running_time.took(connection, [run.id], after(1005)) == {run.id: 25.0}
        end(connection, run.id, RunState.SUCCEEDED, 1010)
        assert running_time.took(connection, [run.id], after(9999)) == {run.id: 30.0}
        assert connection.scalars(
            families.select().with_only_columns(families.c.seconds)
        ).all() == [30.0]
        last = logs.tail(connection, run.id)[-1].message
        assert running_time.took(connection, [], NOW) == {}
    assert last == "succeeded after 30.0 s, in 2 attempts"
