"""Slots, shares, quotas, reservations, pauses, dependencies: the planner's answers carried out."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.errors import InvalidTransition, NotFound, QuotaExceeded, SpecInvalid
from domain.run_state import RunState
from store import fleet, ledger, queue, runs, snapshots, users
from store.artifacts import discard_superseded, register
from store.engine import reading, writing
from store.rows import NewArtifact, SlotSpec
from store.tables import leases
from tests.store.databases import LEASE, NOW, after
from tests.store.making import MAX_ATTEMPTS, claimed, host, live_leases, queued, running

GIB = 1 << 30


def gpu_host(connection, name="w1", *, count=4, now=NOW, **over):
    offered = [SlotSpec("gpu", i, "NVIDIA H200", 141 * GIB) for i in range(count)]
    fleet.register_worker(
        connection, name=name, host="h", pid=1, offered=offered, now=now, cores=16, **over
    )


def end(connection, claim, seconds, to=RunState.SUCCEEDED):
    runs.transition(
        connection, claim.run.id, to=to, now=after(seconds), reason="", attempt=claim.attempt
    )


class TestSeveralSlots:
    def test_one_claim_binds_them_all_and_frees_them_all(self, engine):
        with writing(engine) as connection:
            gpu_host(connection)
            queued(connection, resources={"gpus": 3})
            claim = claimed(connection)
            assert [slot.ordinal for slot in claim.slots] == [0, 1, 2]
            queued(connection, resources={"gpus": 2})
            assert claimed(connection) is None
            beat = queue.renew(connection, claim.run.id, 1, now=after(30), lease=LEASE)
            assert {row.expires_at for row in live_leases(connection)} == {beat.expires_at}
            end(connection, claim, 100)
            assert live_leases(connection) == []
            assert snapshots.snapshot(connection, after(100)).accounts["ada"].usage == 300

    def test_a_lost_one_leaves_every_slot_unconfirmed(self, engine):
        with writing(engine) as connection:
            gpu_host(connection)
            queued(connection, resources={"gpus": 2})
            claim = claimed(connection)
            queue.recover(connection, worker="w1", now=after(1), max_attempts=MAX_ATTEMPTS)
            (worker,) = fleet.all_workers(connection)
            assert [slot.unconfirmed for slot in worker.slots] == [True, True, False, False]
            assert runs.get(connection, claim.run.id).losses == 1

    def test_memory_and_model_choose_the_host(self, engine):
        with writing(engine) as connection:
            gpu_host(connection, "big", count=1)
            small = [SlotSpec("gpu", 0, "NVIDIA L4", 24 * GIB)]
            fleet.register_worker(connection, name="small", host="s", pid=2, offered=small, now=NOW)
            queued(connection, resources={"gpus": 1, "gpu_memory": 40})
            queued(connection, resources={"gpus": 1, "gpu_model": "l4"})
            assert claimed(connection, worker="small").run.spec["resources"]["gpu_model"] == "l4"
            assert claimed(connection, worker="small") is None
            assert claimed(connection, worker="big") is not None

    def test_queues_are_apart(self, engine):
        with writing(engine) as connection:
            host(connection)
            run = queued(connection, resources={"queue": "night"})
            assert claimed(connection) is None
            offered = [SlotSpec("cpu", 0, "CPU", queue="night")]
            fleet.register_worker(connection, name="owl", host="o", pid=3, offered=offered, now=NOW)
            assert claimed(connection, worker="owl").run.id == run.id


class TestShares:
    def test_shares_of_users_and_groups_decide(self, engine):
        with writing(engine) as connection:
            users.put_group(connection, "vision", 3.0)
            users.set_limits(connection, "ada", {"group_name": "vision"})
            first = running(connection)
            end(connection, first, 900)
            host(connection, "w2")
            second = queued(connection, owner="bob")
            assert claimed(connection, worker="w2", now=after(900)).run.id == second.id
            runs.transition(
                connection, second.id, to=RunState.SUCCEEDED, now=after(1300), reason="", attempt=1
            )
            queued(connection, owner="bob", now=after(1301))
            mine = queued(connection, now=after(1302))
            assert claimed(connection, worker="w2", now=after(1303)).run.id == mine.id, "300 < 400"

    def test_limits_are_read_back_and_taken_away(self, engine):
        with writing(engine) as connection:
            row = users.set_limits(connection, "ada", {"most_running": 2, "share": 2.5})
            assert (row.most_running, row.share, row.most_hours) == (2, 2.5, None)
            assert users.set_limits(connection, "ada", {"most_running": None}).most_running is None
            with pytest.raises(NotFound):
                users.set_limits(connection, "ada", {"group_name": "nobody"})
            with pytest.raises(NotFound):
                users.set_limits(connection, "nobody", {})
            users.put_group(connection, "a", 1.0)
            users.put_group(connection, "a", 2.0)
            assert [(g.name, g.share) for g in users.list_groups(connection)] == [("a", 2.0)]


class TestQuotas:
    def test_slots_at_once(self, engine):
        with writing(engine) as connection:
            users.set_limits(connection, "ada", {"most_running": 1})
            host(connection, cpu=3)
            queued(connection, now=after(-1))
            queued(connection, now=after(-1))
            other = queued(connection, owner="bob")
            assert claimed(connection).run.owner == "ada"
            assert claimed(connection).run.id == other.id
            assert claimed(connection) is None

    def test_queued_runs_are_refused_with_what_to_do(self, engine):
        with writing(engine) as connection:
            users.set_limits(connection, "ada", {"most_queued": 1})
            queued(connection)
            queued(connection, owner="bob")
        with writing(engine) as connection, pytest.raises(QuotaExceeded, match="cancel some"):
            queued(connection)

    def test_hours_of_seven_days(self, engine):
        with writing(engine) as connection:
            users.set_limits(connection, "ada", {"most_hours": 0.5})
            end(connection, running(connection), 1800)
            queued(connection)
            assert claimed(connection, now=after(1801)) is None
            week = timedelta(days=7).total_seconds()
            host(connection)
            assert claimed(connection, now=after(week + 1000)) is not None


class TestGivingWay:
    def test_a_higher_priority_asks_the_youngest_and_takes_its_slot(self, engine):
        with writing(engine) as connection:
            host(connection, cpu=2)
            old, young = queued(connection), queued(connection, now=after(1))
            claims = [claimed(connection), claimed(connection, now=after(5))]
            assert [c.run.id for c in claims] == [old.id, young.id]
            urgent = queued(connection, owner="bob", priority=5, now=after(10))
            assert claimed(connection, now=after(10)) is None
            told = queue.renew(connection, young.id, 1, now=after(11), lease=LEASE)
            assert told.yield_requested
            kept = queue.renew(connection, old.id, 1, now=after(11), lease=LEASE)
            assert not kept.yield_requested
            queue.hand_back(
                connection, young.id, 1, now=after(12), reason="gave way", ending="gave-way"
            )
            assert claimed(connection, now=after(12)).run.id == urgent.id
            row = runs.get(connection, young.id)
            assert (row.state, row.losses, row.not_before) == (RunState.QUEUED, 0, after(1))

    def test_giving_way_again_and_again_is_no_loss(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            for attempt in range(1, MAX_ATTEMPTS + 3):
                queue.hand_back(
                    connection, run_id, attempt, now=after(attempt), reason="", ending="gave-way"
                )
                assert claimed(connection, now=after(attempt)).attempt == attempt + 1

    def test_who_is_not_preemptible_stays(self, engine):
        with writing(engine) as connection:
            run_id = running(connection, resources={"preemptible": False}).run.id
            queued(connection, priority=9)
            assert claimed(connection, now=after(1)) is None
            beat = queue.renew(connection, run_id, 1, now=after(2), lease=LEASE)
            assert not beat.yield_requested


class TestPause:
    def test_a_queued_run_waits_until_it_may_go_on(self, engine):
        with writing(engine) as connection:
            host(connection)
            run_id = queued(connection).id
            for _ in range(2):
                assert queue.hold(connection, run_id, held=True, now=NOW, actor="ada").held
            assert claimed(connection) is None
            queue.hold(connection, run_id, held=False, now=after(1), actor="ada")
            assert claimed(connection, now=after(1)) is not None

    def test_a_running_one_is_asked_to_stop_and_is_not_taken_up(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            queue.hold(connection, run_id, held=True, now=after(1), actor="ada")
            beat = queue.renew(connection, run_id, 1, now=after(2), lease=LEASE)
            assert beat.pause_requested
            queue.hand_back(connection, run_id, 1, now=after(3), reason="", ending="gave-way")
            assert claimed(connection, now=after(4)) is None

    def test_what_is_over_cannot_be_paused(self, engine):
        with writing(engine) as connection:
            claim = running(connection)
            end(connection, claim, 5)
        with writing(engine) as connection, pytest.raises(InvalidTransition):
            queue.hold(connection, claim.run.id, held=True, now=after(6), actor="ada")


class TestFollowing:
    def test_a_run_starts_after_those_it_names(self, engine):
        with writing(engine) as connection:
            host(connection, cpu=3)
            first, second = queued(connection), queued(connection)
            third = queued(connection, after=[first.id, second.id])
            claims = [claimed(connection), claimed(connection)]
            assert claimed(connection) is None
            for i, claim in enumerate(claims):
                end(connection, claim, 10 + i)
            assert claimed(connection, now=after(20)).run.id == third.id

    def test_who_follows_a_failure_fails_with_it_down_the_line(self, engine):
        with writing(engine) as connection:
            claim = running(connection)
            second = queued(connection, after=[claim.run.id])
            third = queued(connection, after=[second.id])
            end(connection, claim, 10, RunState.FAILED)
            for run_id in (second.id, third.id):
                row = runs.get(connection, run_id)
                assert row.state is RunState.FAILED
                assert row.failure["code"] == "dependency-failed"

    def test_what_cannot_be_followed_is_refused(self, engine):
        with writing(engine) as connection:
            done = running(connection)
            end(connection, done, 5)
            later = queued(connection, after=[done.run.id])
            assert later.blockers == 0, "it has succeeded already"
            runs.request_cancel(connection, later.id, now=after(6), actor="ada")
        for unknown in ("0" * 18, later.id):
            with writing(engine) as connection, pytest.raises(SpecInvalid) as caught:
                queued(connection, after=[unknown])
            assert caught.value.errors[0].pointer == "/after/0"


class TestSlotsThatAreGivenToNobody:
    def test_a_drained_worker_finishes_what_it_has(self, engine):
        with writing(engine) as connection:
            claim = running(connection)
            fleet.drain(connection, "w1", draining=True)
            queued(connection)
            queue.renew(connection, claim.run.id, 1, now=after(1), lease=LEASE)
            end(connection, claim, 2)
            assert claimed(connection, now=after(3)) is None
            fleet.drain(connection, "w1", draining=False)
            assert claimed(connection, now=after(4)) is not None
            with pytest.raises(NotFound):
                fleet.drain(connection, "nobody", draining=True)

    def test_a_device_that_loses_runs_of_several_users_is_set_aside(self, engine):
        with writing(engine) as connection:
            host(connection)
            for i, owner in enumerate(("ada", "bob", "ada")):
                queued(connection, owner=owner, priority=3 - i, now=after(100 * i))
                host(connection)
                claim = claimed(connection, now=after(100 * i))
                assert claim is not None, i
                queue.requeue(
                    connection,
                    claim.run.id,
                    claim.attempt,
                    now=after(100 * i + 1),
                    reason="ended by SIGKILL",
                    max_attempts=1,
                )
            queued(connection, now=after(400))
            assert claimed(connection, now=after(400)) is None
            ((slot,),) = [worker.slots for worker in fleet.all_workers(connection)]
            assert slot.quarantine == "the last 3 attempts were lost here, of ada and bob"
            fleet.release(connection, "w1", "cpu", 0, now=after(400))
            assert claimed(connection, now=after(401)) is not None
            with pytest.raises(NotFound):
                fleet.release(connection, "w1", "gpu", 0, now=after(401))

    def test_losses_of_one_user_blame_their_runs(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            for attempt in range(1, 5):
                queue.requeue(
                    connection, run_id, attempt, now=after(70 * attempt), reason="", max_attempts=9
                )
                assert claimed(connection, now=after(70 * attempt + 60)) is not None

    def test_a_gpu_that_others_use_is_not_handed_out(self, engine):
        with writing(engine) as connection:
            gpu_host(connection, count=2)
            queued(connection, resources={"gpus": 2})
            alive = {"busy_slots": set(), "now": NOW}
            fleet.worker_alive(connection, "w1", foreign={1: "process 7, python"}, **alive)
            assert claimed(connection) is None
            fleet.worker_alive(connection, "w1", **alive)
            assert claimed(connection) is None, "nobody looked again"
            fleet.worker_alive(connection, "w1", foreign={}, **alive)
            assert claimed(connection) is not None


class TestLedger:
    def test_seconds_are_useful_or_wasted(self, engine):
        with writing(engine) as connection:
            gpu_host(connection)
            queued(connection, resources={"gpus": 2})
            lost = claimed(connection)
            kept = NewArtifact(
                name="checkpoints/last.safetensors",
                kind="checkpoint",
                media_type="application/octet-stream",
                sha256="0" * 64,
                size=1,
                key="k",
                role="last",
                step=3,
            )
            register(connection, lost.run.id, 1, kept, now=after(60))
            queue.requeue(connection, lost.run.id, 1, now=after(100), reason="", max_attempts=9)
            fleet.worker_alive(connection, "w1", busy_slots=set(), now=after(100))
            again = claimed(connection, now=after(110))
            register(connection, again.run.id, 2, replace(kept, key="k2"), now=after(130))
            assert discard_superseded(connection, again.run.id, 2) == ["k"]
            end(connection, again, 160)
            queued(connection, owner="bob", resources={"gpus": 1}, now=after(170))
            failed = claimed(connection, now=after(170))
            end(connection, failed, 180, RunState.FAILED)
        with reading(engine) as connection:
            by_user = ledger.ledger(connection, by="user", now=after(200))
            by_attempt = ledger.ledger(connection, by="attempt", now=after(200))
            recent = ledger.ledger(connection, by="week", now=after(200), since=after(150))
        assert [(r.name, r.kind, r.attempts, r.useful, r.wasted) for r in by_user] == [
            ("ada", "gpu", 2, 220.0, 80.0),
            ("bob", "gpu", 1, 0.0, 10.0),
        ]
        assert [row.name.split("/")[1] for row in by_attempt] == ["1", "2", "1"]
        assert [(row.name, row.attempts) for row in recent] == [("2026-W01", 1)]
        table = list(ledger.as_csv(by_user, "user"))
        assert table[1] == ("ada", "gpu", 2, 220.0, 80.0)

    @pytest.mark.parametrize("ending", ["handed-back", "gave-way"])
    def test_of_what_ends_as_planned_only_what_was_kept_is_useful(self, engine, ending):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            queue.hand_back(connection, run_id, 1, now=after(100), reason="", ending=ending)
            claimed(connection, now=after(100))
            kept = NewArtifact("n", "checkpoint", "x/y", "0" * 64, 1, "k", role="last", step=3)
            register(connection, run_id, 2, kept, now=after(160))
            queue.hand_back(connection, run_id, 2, now=after(170), reason="", ending=ending)
            claimed(connection, now=after(200))
            rows = ledger.ledger(connection, by="attempt", now=after(230))
        figures = [(row.useful, row.wasted) for row in rows]
        assert figures == [(0.0, 100.0), (60.0, 10.0), (30.0, 0.0)], "the last one still runs"

    @pytest.mark.parametrize("how", ["lost", "gave-way"])
    def test_what_is_cancelled_is_wasted_however_its_attempt_ends(self, engine, how):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            kept = NewArtifact("n", "checkpoint", "x/y", "0" * 64, 1, "k", role="last", step=3)
            register(connection, run_id, 1, kept, now=after(60))
            runs.request_cancel(connection, run_id, now=after(70), actor="ada")
            if how == "lost":
                queue.requeue(connection, run_id, 1, now=after(80), reason="", max_attempts=9)
            else:
                queue.hand_back(connection, run_id, 1, now=after(80), reason="", ending="gave-way")
            (row,) = ledger.ledger(connection, by="attempt", now=after(230))
            outcome = connection.scalar(sa.select(leases.c.outcome))
        assert (outcome, row.useful, row.wasted) == ("cancelled", 0.0, 80.0)
