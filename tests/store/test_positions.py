"""The reason a run is told for its waiting is the right one in every case of a table."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from domain.family import works
from domain.forecast import RATIOS
from domain.run_state import RunState
from store import fleet, positions, queue, runs, users
from store.engine import reading, writing
from store.rows import RunRow, SlotSpec
from store.tables import runs as run_rows
from store.tables import users as user_rows
from tests.store.databases import DIGITS, NOW, after
from tests.store.making import claimed, host, queued, reads, running

Scenario = Callable[[Connection], RunRow]
SCENARIOS: dict[str, tuple[Scenario, str, str]] = {}


def scenario(why: str, says: str) -> Callable[[Scenario], Scenario]:
    """A situation that returns the run that is asked about, and what it should be told."""

    def add(prepare: Scenario) -> Scenario:
        SCENARIOS[prepare.__name__] = (prepare, why, says)
        return prepare

    return add


@scenario("no-worker", "a worker with 1 gpu slot: none is alive")
def nobody_offers_it(connection: Connection) -> RunRow:
    host(connection)
    return queued(connection, resources={"gpus": 1})


@scenario("no-worker", "in queue night")
def nobody_serves_its_queue(connection: Connection) -> RunRow:
    host(connection)
    return queued(connection, resources={"queue": "night"})


@scenario("no-worker", "none is alive")
def its_only_worker_is_drained(connection: Connection) -> RunRow:
    host(connection)
    fleet.drain(connection, "w1", draining=True)
    return queued(connection)


@scenario("impossible", "3 cpu slots on one host: no host has that")
def no_host_is_large_enough(connection: Connection) -> RunRow:
    host(connection, "w1", cpu=2)
    host(connection, "w2", cpu=2)
    return queued(connection, resources={"cpu_slots": 3})


@scenario("impossible", "64 cores")
def no_host_has_the_cores(connection: Connection) -> RunRow:
    offered = [SlotSpec("cpu", 0, "CPU")]
    fleet.register_worker(connection, name="w1", host="h", pid=1, offered=offered, now=NOW, cores=8)
    return queued(connection, resources={"cores": 64})


@scenario("data-missing", "a worker with CIFAR-10: none has it; run `python -m partcore.data")
def no_host_has_its_data(connection: Connection) -> RunRow:
    host(connection)
    reads(connection, "w1", ("svhn",))
    return queued(connection, data={"dataset": "cifar10"})


@scenario("slots", "1 cpu slot to be free")
def every_slot_is_busy(connection: Connection) -> RunRow:
    running(connection)
    return queued(connection)


@scenario("slots", "1 run(s) come before it")
def somebody_is_before_it(connection: Connection) -> RunRow:
    running(connection)
    queued(connection)
    return queued(connection, now=after(1))


@scenario("set-aside", "gives it to nobody; `part doctor` says why")
def its_slot_is_in_quarantine(connection: Connection) -> RunRow:
    host(connection)
    for owner in ("ada", "bob", "ada"):
        queued(connection, owner=owner)
        claim = claimed(connection)
        assert claim is not None
        queue.requeue(connection, claim.run.id, 1, now=NOW, reason="", max_attempts=1)
    return queued(connection)


@scenario("reserved", "slots that are kept for run")
def a_larger_run_has_its_slots(connection: Connection) -> RunRow:
    host(connection, cpu=2)
    queued(connection, resources={"preemptible": False})
    assert claimed(connection) is not None
    queued(connection, resources={"cpu_slots": 2})
    return queued(connection, resources={"preemptible": False}, now=after(1))


@scenario("running-quota", "1 slots at once is the quota")
def its_owner_holds_enough(connection: Connection) -> RunRow:
    users.set_limits(connection, "ada", {"most_running": 1})
    host(connection, cpu=2)
    queued(connection)
    assert claimed(connection) is not None
    return queued(connection)


@scenario("beyond-quota", "1 slots at once is that of ada, and it asks for 2")
def it_asks_for_more_than_its_owners_quota(connection: Connection) -> RunRow:
    users.set_limits(connection, "ada", {"most_running": 1})
    host(connection, cpu=2)
    return queued(connection, resources={"cpu_slots": 2})


@scenario("week-quota", "0.01 slot-hours in seven days are used up")
def its_owner_had_enough_this_week(connection: Connection) -> RunRow:
    users.set_limits(connection, "ada", {"most_hours": 0.01})
    claim = running(connection)
    runs.transition(
        connection, claim.run.id, to=RunState.SUCCEEDED, now=after(40), reason="", attempt=1
    )
    return queued(connection)


@scenario("after", "(running) to succeed")
def it_follows_another(connection: Connection) -> RunRow:
    return queued(connection, after=[running(connection).run.id])


@scenario("paused", "part resume")
def it_is_paused(connection: Connection) -> RunRow:
    run = queued(connection)
    return queue.hold(connection, run.id, held=True, now=NOW, actor="ada")


@scenario("backoff", "backoff after a lost attempt")
def it_was_lost(connection: Connection) -> RunRow:
    claim = running(connection)
    queue.requeue(connection, claim.run.id, 1, now=after(49.5), reason="", max_attempts=9)
    return claim.run


@scenario("starts", "it starts now")
def nothing_holds_it(connection: Connection) -> RunRow:
    host(connection)
    return queued(connection)


@scenario("state", "nothing: the run is running")
def it_runs(connection: Connection) -> RunRow:
    return running(connection).run


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_reason_is_the_right_one(engine, name):
    prepare, why, says = SCENARIOS[name]
    with writing(engine) as connection:
        run = prepare(connection)
    with reading(engine) as connection:
        told = positions.position(connection, run.id, after(50))
    assert (told.why, says in told.waits_for) == (why, True), told


def test_the_run_that_slots_are_kept_for_is_one_of_its_own_queue(engine):
    with writing(engine) as connection:
        host(connection, cpu=2, gpu=2)
        large = {}
        for kind in ("cpu_slots", "gpus"):
            queued(connection, resources={kind: 1, "preemptible": False})
            assert claimed(connection) is not None
            large[kind] = queued(connection, resources={kind: 2})
        small = {"gpus": 1, "preemptible": False}
        run = queued(connection, resources=small, now=after(1))
        told = positions.position(connection, run.id, after(2))
    assert (told.why, large["gpus"].id in told.waits_for) == ("reserved", True), told


def test_a_turn_is_kept_until_the_run_starts(engine):
    """However the ranks of its owner change: otherwise no host would ever be empty."""
    with writing(engine) as connection:
        host(connection, cpu=2)
        queued(connection, owner="bob", resources={"preemptible": False})
        first = claimed(connection)
        large = queued(connection, resources={"cpu_slots": 2})
        assert claimed(connection) is None
        assert runs.get(connection, large.id).reserved
        spent = {"usage_seconds": 1e6, "usage_at": NOW}
        connection.execute(user_rows.update().where(user_rows.c.name == "ada").values(**spent))
        other = queued(connection, owner="bob", resources={"preemptible": False}, now=after(1))
        assert claimed(connection, now=after(2)) is None
        told = positions.position(connection, other.id, after(2))
        assert (told.why, large.id in told.waits_for) == ("reserved", True)
        runs.transition(
            connection, first.run.id, to=RunState.SUCCEEDED, now=after(3), reason="", attempt=1
        )
        taken = claimed(connection, now=after(3))
        assert taken.run.id == large.id
        assert not runs.get(connection, large.id).reserved


def test_every_rule_has_a_scenario():
    from typing import get_args

    from domain.schedule import Why

    met = {why for _, why, _ in SCENARIOS.values()}
    assert met == {*get_args(Why), "after", "paused", "backoff", "state"}


def test_an_estimate_rests_on_what_such_runs_took(engine):
    with writing(engine) as connection:
        claim = running(connection)
        runs.transition(
            connection, claim.run.id, to=RunState.SUCCEEDED, now=after(300), reason="", attempt=1
        )
        queued(connection, now=after(301))
        assert claimed(connection, now=after(310)) is not None
        waiting = queued(connection, now=after(320))
        later = queued(connection, now=after(330))
        host(connection, now=after(340))
        told = [positions.position(connection, run.id, after(360)) for run in (waiting, later)]
    low, middle, high = RATIOS["same-spec"]
    assert [one.estimated_start for one in told] == [after(360 + middle * s) for s in (250, 550)]
    assert told[0].earliest_start == after(360 + low * 250)
    assert told[0].latest_start == after(360 + high * 250)
    assert [one.ahead for one in told] == [0, 1]
    assert told[0].source == "same-spec"
    assert told[0].basis == "from runs like it; eight starts in ten are in the range"


def test_without_any_experience_there_is_no_forecast_and_it_is_said(engine):
    with writing(engine) as connection:
        running(connection)
        told = positions.position(connection, queued(connection).id, after(50))
    assert told.estimated_start is None
    assert told.basis == "no forecast: no run like those before it has ended yet"


def test_a_declared_length_is_believed(engine):
    over: dict[str, Any] = {"resources": {"minutes": 10}}
    with writing(engine) as connection:
        running(connection, **over)
        told = positions.position(connection, queued(connection).id, after(50))
    assert told.estimated_start == after(50 + 550 * RATIOS["declared"][1])
    assert told.source == "declared"


def test_what_a_running_run_reports_goes_before_what_its_owner_declared(engine):
    """Half of the training took 50 s; the attacks that follow cost what the spec says."""
    over: dict[str, Any] = {"resources": {"minutes": 10}}
    progress = {"phase": "train", "done": 10, "total": 20, "unit": "step"}
    with writing(engine) as connection:
        claim = running(connection, **over)
        connection.execute(
            run_rows.update().where(run_rows.c.id == claim.run.id).values(progress=progress)
        )
        told = positions.position(connection, queued(connection).id, after(50))
    training, evaluation = works(DIGITS)
    left = 50 + 100 * evaluation / training
    assert told.source == "reported"
    wait = (told.estimated_start - after(50)).total_seconds()
    assert wait == pytest.approx(left * RATIOS["reported"][1], rel=1e-6)


def test_who_starts_at_once_is_told_so_and_rests_on_nobodys_duration(engine):
    with writing(engine) as connection:
        host(connection)
        told = positions.position(connection, queued(connection).id, after(5))
    assert (told.why, told.estimated_start) == ("starts", after(5))
    assert (told.source, told.basis) == (None, "a slot is free")
