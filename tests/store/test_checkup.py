"""What the checks and the metrics read from the database, which is brought out of order here."""

from datetime import timedelta

import sqlalchemy as sa

from domain.checkup import CANCELLING_SECONDS, OVERDUE_SECONDS, Disk
from domain.run_state import RunState
from store import checkup, fleet, history, queue, runs
from store.engine import clock_skew, database_now, reading, writing
from store.rows import SlotSpec, Vitals
from store.tables import leases
from store.tables import runs as run_rows
from tests.store.databases import LEASE, NOW, after
from tests.store.making import MAX_ATTEMPTS, claimed, host, queued, running

SICK = ("overdue", "unleased", "leased", "cancelling", "miscounted", "unmet", "shut")


def told(connection, seconds=0.0):
    """What is out of order, by name."""
    found = checkup.rows(connection, after(seconds))
    return {name: value for name in SICK if (value := getattr(found, name))}


def test_the_schema_is_the_one_this_version_needs(engine):
    with reading(engine) as connection:
        found = checkup.schema(connection)
    assert found.is_current, found
    assert found.dialect.casefold() == engine.dialect.name


def test_a_database_without_tables_has_no_revision(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    with engine.connect() as connection:
        assert checkup.schema(connection).revision is None
    engine.dispose()


def test_nothing_is_wrong_with_a_lab_at_work(engine):
    with writing(engine) as connection:
        first = running(connection)
        queued(connection, after=[first.run.id])
        queue.reap(connection, now=NOW, lease=LEASE, max_attempts=MAX_ATTEMPTS)
        assert told(connection) == {}
        found = checkup.rows(connection, after(5))
    assert (found.reaper_silent, found.waiting) == (5.0, 1)
    assert [(h.name, h.silent_seconds, h.has_left) for h in found.hosts] == [("w1", 5.0, False)]


def test_a_lease_that_nobody_takes_back_is_overdue(engine):
    with writing(engine) as connection:
        claim = running(connection)
        end = LEASE.total_seconds() + OVERDUE_SECONDS
        assert told(connection, end - 1) == {}
        assert told(connection, end + 1) == {"overdue": [claim.run.id]}


def test_runs_and_leases_that_do_not_agree_are_named(engine):
    with writing(engine) as connection:
        host(connection, cpu=3)
        unleased, leased = (queued(connection), queued(connection))
        while claimed(connection):
            pass
        mine = leases.c.run_id == unleased.id
        connection.execute(leases.update().where(mine).values(ended_at=NOW, outcome="lost"))
        other = run_rows.c.id == leased.id
        connection.execute(run_rows.update().where(other).values(state=RunState.SUCCEEDED))
        assert told(connection) == {"unleased": [unleased.id], "leased": [leased.id]}


def test_a_run_that_waits_for_runs_that_are_not_there_is_named(engine):
    with writing(engine) as connection:
        host(connection)
        run = queued(connection)
        connection.execute(run_rows.update().where(run_rows.c.id == run.id).values(blockers=2))
        assert told(connection) == {"miscounted": [run.id]}


def test_cancelling_may_take_a_while_and_no_longer(engine):
    with writing(engine) as connection:
        claim = running(connection)
        runs.request_cancel(connection, claim.run.id, now=after(10), actor="ada")
        held = timedelta(days=1)
        queue.renew(connection, claim.run.id, 1, now=after(10), lease=held)
        assert told(connection, 10 + CANCELLING_SECONDS - 1) == {}
        assert told(connection, 10 + CANCELLING_SECONDS + 1) == {"cancelling": [claim.run.id]}


def test_needs_that_no_host_has_are_told_in_words(engine):
    with writing(engine) as connection:
        host(connection)
        queued(connection, resources={"gpus": 2})
        queued(connection, resources={"gpus": 2})
        queued(connection)
        assert told(connection) == {"unmet": ("2 gpu slots",)}


def test_slots_that_are_given_to_nobody_are_told_with_the_reason(engine):
    with writing(engine) as connection:
        host(connection, cpu=1, gpu=1)
        queued(connection)
        claim = claimed(connection)
        foreign = {0: "python of eve"}
        fleet.worker_alive(connection, "w1", busy_slots=(), now=NOW, foreign=foreign)
        queue.recover(connection, worker="w1", now=after(1), max_attempts=MAX_ATTEMPTS)
        found = checkup.rows(connection, after(1)).shut
        assert [(s.slot, s.why) for s in found] == [("cpu:0", "unconfirmed"), ("gpu:0", "foreign")]
        assert "python of eve" in found[1].told
        assert claim is not None


def test_a_host_is_as_it_last_told(engine):
    seen = Vitals(clock_skew=-0.5, disk_free=3, disk_total=9, orphans=2)
    with writing(engine) as connection:
        host(connection)
        fleet.worker_alive(connection, "w1", busy_slots=(), now=NOW, vitals=seen)
        fleet.worker_alive(connection, "w1", busy_slots=(), now=after(9))
        (one,) = checkup.hosts(connection, after(10))
    assert (one.clock_skew, one.disk, one.orphans) == (-0.5, Disk(3, 9), 2)
    assert one.silent_seconds == 1.0


def test_a_worker_that_signed_off_or_was_drained_and_is_silent_has_left(engine):
    with writing(engine) as connection:
        for name in ("ended", "drained", "lost"):
            offered = [SlotSpec("cpu", 0, "CPU")]
            fleet.register_worker(
                connection, name=name, host="h", pid=7, offered=offered, now=after(0)
            )
        fleet.sign_off(connection, "ended", 7)
        fleet.drain(connection, "drained", draining=True)
        now = {h.name: h.has_left for h in checkup.hosts(connection, after(1))}
        later = {h.name: h.has_left for h in checkup.hosts(connection, after(600))}
    assert now == {"ended": True, "drained": False, "lost": False}
    assert later == {"ended": True, "drained": True, "lost": False}


def test_what_a_time_series_is_kept_of(engine):
    with writing(engine) as connection:
        host(connection, cpu=3, gpu=1)
        ended, lost, going = (queued(connection, now=after(-60)) for _ in range(3))
        for _ in range(3):
            claimed(connection)
        queue.reap(connection, now=NOW, lease=LEASE, max_attempts=MAX_ATTEMPTS)
        runs.transition(
            connection, ended.id, to=RunState.SUCCEEDED, now=after(1), reason="", attempt=1
        )
        queue.requeue(connection, lost.id, 1, now=after(1), reason="", max_attempts=MAX_ATTEMPTS)
        queue.renew(connection, going.id, 1, now=after(1), lease=LEASE)
        found = checkup.counts(connection, after(50))
        later = checkup.counts(connection, after(62))
    assert found.runs == {s.value: 0 for s in RunState} | {
        "succeeded": 1,
        "queued": 1,
        "running": 1,
    }
    assert found.slots == {("cpu", "busy"): 1, ("cpu", "free"): 2, ("gpu", "free"): 1}
    assert found.ended == {"succeeded": 1, "lost": 1}
    assert (found.overdue, later.overdue) == (0, 1)
    assert found.oldest_wait == {"cpu": 48.0}, "since its backoff ended"
    assert (found.workers, later.workers) == ({"at-work": 1}, {"silent": 1})
    assert found.reaper == NOW


def test_a_run_waits_since_it_last_came_to_wait(engine):
    """Not since it was submitted: it ran, was paused or followed another in between."""
    day = 86400.0
    with writing(engine) as connection:
        run_id = running(connection).run.id
        assert checkup.counts(connection, after(day)).oldest_wait == {}
        queue.hand_back(connection, run_id, 1, now=after(day), reason="", ending="gave-way")
        assert checkup.counts(connection, after(day + 7)).oldest_wait == {"cpu": 7.0}
        queue.hold(connection, run_id, held=True, now=after(day + 8), actor="ada")
        queue.hold(connection, run_id, held=False, now=after(2 * day), actor="ada")
        assert checkup.counts(connection, after(2 * day + 3)).oldest_wait == {"cpu": 3.0}
        queued(connection, now=after(2 * day - 5))
        assert checkup.counts(connection, after(2 * day + 3)).oldest_wait == {"cpu": 8.0}


def test_a_run_that_follows_waits_since_the_last_of_them_succeeded(engine):
    with writing(engine) as connection:
        host(connection, cpu=2)
        first, second = queued(connection), queued(connection)
        later = queued(connection, after=[first.id, second.id])
        assert claimed(connection) is not None
        assert claimed(connection) is not None
        for seconds, run in ((100, first), (200, second)):
            runs.transition(
                connection, run.id, to=RunState.SUCCEEDED, now=after(seconds), reason="", attempt=1
            )
        assert checkup.counts(connection, after(209)).oldest_wait == {"cpu": 9.0}
        told = [event.reason for event in history.events(connection, later.id)]
    assert told[1:] == [f"run {second.id}, the last that it was to follow, has succeeded"]


def test_slots_of_hosts_that_have_left_are_nobodys_concern(engine):
    with writing(engine) as connection:
        for name in ("ended", "drained", "here"):
            offered = [SlotSpec("gpu", 0, "GPU")]
            fleet.register_worker(connection, name=name, host="h", pid=7, offered=offered, now=NOW)
            foreign = {0: "python of eve"}
            fleet.worker_alive(connection, name, busy_slots=(), now=NOW, foreign=foreign)
        fleet.sign_off(connection, "ended", 7)
        fleet.drain(connection, "drained", draining=True)
        soon, later = (checkup.rows(connection, after(seconds)).shut for seconds in (1, 600))
    assert [shut.worker for shut in soon] == ["drained", "here"]
    assert [shut.worker for shut in later] == ["here"]


def test_a_clock_is_compared_with_the_databases(engine):
    with reading(engine) as connection:
        database = database_now(connection).timestamp()
        assert abs(clock_skew(connection, lambda: database + 300) - 300) < 5
        assert abs(clock_skew(connection, lambda: database - 300) + 300) < 5
