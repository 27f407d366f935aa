import threading

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Fenced, InvalidTransition, NotFound
from domain.run_state import RunState
from domain.schedule import decayed
from store import fleet, positions, queue, runs, snapshots
from store.engine import reading, writing
from store.rows import SlotSpec
from store.tables import families
from store.tables import runs as run_rows
from tests.store.databases import LEASE, NOW, after
from tests.store.making import MAX_ATTEMPTS, claimed, host, lease_of, queued, running


def reap(connection, seconds):
    return queue.reap(connection, now=after(seconds), lease=LEASE, max_attempts=MAX_ATTEMPTS)


def serve(connection, start: int, end: int) -> list:
    """Let the reaper run every twenty seconds; return what it gave back."""
    return [item for second in range(start, end + 1, 20) for item in reap(connection, second)]


@given(st.floats(0, 1e9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_usage_decays_and_composes(seconds, first, second):
    once = decayed(seconds, NOW, after(first + second))
    twice = decayed(decayed(seconds, NOW, after(first)), after(first), after(first + second))
    assert 0 <= once <= seconds
    assert once == pytest.approx(twice, rel=1e-6, abs=1e-9)


def test_a_claim_binds_run_slot_and_attempt(engine):
    with writing(engine) as connection:
        host(connection, cpu=1)
        run = queued(connection)
        claim = claimed(connection)
        assert claim is not None
        assert (claim.run.id, claim.attempt, claim.expires_at) == (run.id, 1, NOW + LEASE)
        assert (claim.run.state, claim.run.worker) == (RunState.RUNNING, "w1")
        queued(connection)
        assert claimed(connection) is None, "the only slot is taken"
        (worker,) = fleet.all_workers(connection)
        assert worker.slots[0].run_id == run.id


@pytest.mark.parametrize("since", ["held", "cancelled", "running"])
def test_a_run_that_changed_since_its_turn_was_planned_is_not_started(engine, since):
    with writing(engine) as connection:
        run_id = queued(connection).id
        if since == "held":
            queue.hold(connection, run_id, held=True, now=NOW, actor="ada")
        elif since == "cancelled":
            runs.request_cancel(connection, run_id, now=NOW, actor="ada")
        else:
            runs.start(connection, run_id, worker="w2", now=NOW)
        before = runs.get(connection, run_id)
        with pytest.raises(InvalidTransition):
            runs.start(connection, run_id, worker="w1", now=after(1))
        assert runs.get(connection, run_id) == before


def test_an_attempt_begins_where_the_run_once_began(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        queue.hand_back(connection, run_id, 1, now=after(5), reason="")
        run = runs.start(connection, run_id, worker="w2", now=after(7))
    assert (run.attempt, run.worker, run.started_at, run.alive_at) == (2, "w2", NOW, after(7))


def test_a_run_waits_for_a_slot_of_its_kind(engine):
    with writing(engine) as connection:
        host(connection, "w1", cpu=1)
        gpu_run = queued(connection, resources={"gpus": 1})
        assert claimed(connection) is None
        told = positions.position(connection, gpu_run.id, NOW)
        assert "gpu slot: none is alive" in told.waits_for
        host(connection, "w2", cpu=0, gpu=1)
        claim = claimed(connection, worker="w2")
        assert claim is not None
        assert (claim.slots[0].kind, claim.slots[0].ordinal) == ("gpu", 0)


def test_fair_share_gives_the_slot_to_who_used_least(engine):
    with writing(engine) as connection:
        host(connection)
        order = [
            queued(connection, owner=owner, now=after(i)).id
            for i, owner in enumerate(["ada", "ada", "ada", "bob"])
        ]
        started = []
        for turn in range(4):
            claim = claimed(connection, now=after(100 * turn + 10))
            started.append(claim.run.id)
            runs.transition(
                connection,
                claim.run.id,
                to=RunState.SUCCEEDED,
                now=after(100 * turn + 60),
                reason="",
                attempt=1,
            )
    assert started == [order[0], order[3], order[1], order[2]]


def test_the_cost_of_an_attempt_is_charged_when_it_ends(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        assert used(connection, 90) == 90.0
        runs.transition(
            connection, run_id, to=RunState.FAILED, now=after(110), reason="", attempt=1
        )
        assert used(connection, 110) == pytest.approx(110.0)
        assert used(connection, 110 + 24 * 3600) == pytest.approx(55.0)


def test_a_familys_duration_moves_towards_what_its_runs_took_in_all_their_attempts(engine):
    seen, begin = [], 0
    with writing(engine) as connection:
        host(connection)
        for took in (80, *[160] * 9):
            run_id = queued(connection, now=after(begin)).id
            claimed(connection, now=after(begin))
            queue.hand_back(connection, run_id, 1, now=after(begin + 30), reason="")
            claimed(connection, now=after(begin + 50))
            end = after(begin + 20 + took)
            runs.transition(connection, run_id, to=RunState.SUCCEEDED, now=end, reason="")
            seen.append(connection.execute(sa.select(families)).one())
            begin += 1000
    assert [row.runs for row in seen] == list(range(1, 11))
    averages = [80.0]
    for before in range(1, 10):
        averages.append(averages[-1] + (160 - averages[-1]) / min(before + 1, runs.REMEMBERED))
    assert [row.seconds for row in seen] == pytest.approx(averages)


def used(connection, seconds: float) -> float:
    return snapshots.snapshot(connection, after(seconds)).accounts["ada"].usage


def test_competing_claimers_never_share_a_run_or_a_slot(engine):
    with writing(engine) as connection:
        for i in range(24):
            queued(connection, owner=("ada", "bob")[i % 2], now=after(i))
        for w in range(4):
            host(connection, f"w{w}", cpu=3)
    claims = []

    def work(name: str) -> None:
        for _ in range(6):
            with writing(engine) as connection:
                claims.append(claimed(connection, worker=name, now=after(60)))

    threads = [threading.Thread(target=work, args=(f"w{w}",)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    got = [claim for claim in claims if claim is not None]
    assert len(claims) == 24
    assert len(got) == 12, "three slots on each of four workers"
    assert len({claim.run.id for claim in got}) == 12
    assert len({claim.slots[0].id for claim in got}) == 12


def test_renewal_prolongs_and_a_lost_lease_cannot_be_renewed(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        beat = queue.renew(connection, run_id, 1, now=after(50), lease=LEASE)
        assert (beat.cancel_requested, beat.expires_at) == (False, after(110))
        assert lease_of(connection, run_id, 1) == after(110)
        assert runs.get(connection, run_id).alive_at == after(50)
        assert serve(connection, 0, 100) == []
        assert [r.run_id for r in serve(connection, 120, 120)] == [run_id]
        with pytest.raises(Fenced):
            queue.renew(connection, run_id, 1, now=after(121), lease=LEASE)
        with pytest.raises(NotFound):
            lease_of(connection, run_id, 1)


def test_a_lost_run_comes_back_with_backoff_until_the_cap(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        now = 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if attempt > 1:
                waits = queue.backoff(attempt - 1).total_seconds()
                assert claimed(connection, now=after(now + waits / 2)) is None
                assert claimed(connection, now=after(now + waits)).attempt == attempt
            while not (lost := reap(connection, now)):
                now += 20
                assert now < 1000
            assert [(r.run_id, r.attempt) for r in lost] == [(run_id, attempt)]
            fleet.worker_alive(connection, "w1", busy_slots=set(), now=after(now))
        row = runs.get(connection, run_id)
    assert row.state is RunState.FAILED
    assert row.failure["failure_class"] == "infrastructure"
    assert f"the last of {MAX_ATTEMPTS}" in row.failure["message"]


def test_a_lost_run_that_was_to_be_cancelled_is_cancelled(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        runs.request_cancel(connection, run_id, now=NOW, actor="ada")
        (lost,) = serve(connection, 0, 100)
    assert lost.outcome is RunState.CANCELLED


def test_a_lost_leases_slot_is_busy_until_its_worker_says_otherwise(engine):
    with writing(engine) as connection:
        claim = running(connection)
        serve(connection, 0, 100)
        assert claimed(connection, now=after(110)) is None
        fleet.worker_alive(connection, "w1", busy_slots={claim.slots[0].id}, now=after(111))
        assert claimed(connection, now=after(112)) is None, "a frozen child is still on it"
        assert positions.queue(connection).cpu_busy == 1
        fleet.worker_alive(connection, "w1", busy_slots=set(), now=after(113))
        assert claimed(connection, now=after(114)).attempt == 2


def test_after_an_outage_nothing_expires_for_one_lease(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        serve(connection, 0, 40)
        assert reap(connection, 600) == [], "the owner could not have renewed"
        assert serve(connection, 620, 650) == []
        assert [r.run_id for r in serve(connection, 650, 670)] == [run_id]


def test_a_worker_that_stops_gives_its_run_back_for_free(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        queue.hand_back(connection, run_id, 1, now=after(5), reason="worker stopped")
        row = runs.get(connection, run_id)
        assert (row.state, row.worker, row.not_before) == (RunState.QUEUED, None, NOW)
        assert claimed(connection, now=after(5)).attempt == 2


def test_a_slot_that_is_offered_no_more_is_not_filled(engine):
    with writing(engine) as connection:
        host(connection, cpu=2)
        host(connection, cpu=1)
        queued(connection)
        queued(connection)
        assert claimed(connection) is not None
        assert claimed(connection) is None
        slots = fleet.register_worker(
            connection,
            name="w1",
            host="h",
            pid=2,
            offered=[SlotSpec("cpu", 1, "again")],
            now=after(1),
        )
    assert [(s.ordinal, s.device_name) for s in slots] == [(1, "again")]


def test_the_queue_in_numbers(engine):
    with writing(engine) as connection:
        running(connection)
        queued(connection)
        host(connection, "w2", cpu=1, gpu=2)
    with reading(engine) as connection:
        view = positions.queue(connection)
    assert (view.queued, view.running, view.cancelling) == (1, 1, 0)
    assert (view.cpu_slots, view.cpu_busy, view.gpu_slots, view.gpu_busy) == (2, 1, 2, 0)


def test_a_line_of_any_length_fails_with_its_first(engine):
    with writing(engine) as connection:
        before = first = running(connection).run.id
        for i in range(600):
            before = queued(connection, after=[before], now=after(i / 100)).id
        (lost,) = queue.recover(connection, worker="w1", now=after(9), max_attempts=1)
        last = runs.get(connection, before)
    assert (lost.run_id, lost.outcome) == (first, RunState.FAILED)
    assert last.state is RunState.FAILED
    assert last.failure["code"] == "dependency-failed"


def test_a_lease_that_cannot_be_ended_keeps_no_other_from_it(engine):
    """Its run is over, by a hand in the database: it cannot go back to the queue."""
    heard = []
    with writing(engine) as connection:
        host(connection, cpu=2)
        broken, lost = queued(connection, now=after(-1)), queued(connection, owner="bob")
        assert claimed(connection) is not None
        assert claimed(connection) is not None
        serve(connection, 0, 40)
        mine = run_rows.c.id == broken.id
        connection.execute(run_rows.update().where(mine).values(state=RunState.SUCCEEDED))
        for seconds in (60, 80):
            found = queue.reap(
                connection,
                now=after(seconds + 1),
                lease=LEASE,
                max_attempts=MAX_ATTEMPTS,
                failed=lambda *told: heard.append(told),
            )
            assert [item.run_id for item in found] == ([lost.id] if seconds == 60 else [])
        (worker,) = fleet.all_workers(connection)
    assert [told[:2] for told in heard] == [(broken.id, 1)] * 2
    assert all(isinstance(told[2], InvalidTransition) for told in heard)
    assert [slot.unconfirmed for slot in worker.slots] == [False, True], "nothing of it is kept"
