"""Who starts, who waits and why: the planner's laws."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.schedule import (
    Account,
    Host,
    Needs,
    Plan,
    Running,
    Slot,
    Snapshot,
    Waiting,
    forecast,
    in_turn,
    plan,
)
from tests.examples import examples

NOW = datetime(2026, 1, 5, tzinfo=UTC)
GIB = 1 << 30


def gpus(count: int = 1, **over: object) -> Needs:
    return replace(Needs("gpu", "gpu", slots=count), **over)


def host(name: str = "a", count: int = 4, first: int = 0, **over: object) -> Host:
    slots = tuple(Slot(first + i, "gpu", "gpu", 80 * GIB, "NVIDIA H200") for i in range(count))
    return replace(Host(name, slots), **over)


def waits(run_id: str, owner: str = "ada", count: int = 1, **over: object) -> Waiting:
    return replace(Waiting(run_id, owner, gpus(count)), **over)


def runs(run_id: str, *slots: int, owner: str = "bob", ago: float = 600, **over: object) -> Running:
    return replace(Running(run_id, owner, slots, NOW - timedelta(seconds=ago)), **over)


def decided(*waiting: Waiting, running: tuple[Running, ...] = (), **over: object) -> Plan:
    hosts = over.pop("hosts", (host(),))
    return plan(Snapshot(NOW, hosts, waiting, running, **over))


def started(found: Plan) -> list[str]:
    return [start.run_id for start in found.starts]


class TestOrder:
    def test_priority_then_usage_by_share_then_submission(self):
        accounts = {
            "ada": Account(usage=900, share=3),
            "bob": Account(usage=600, share=1),
            "eve": Account(usage=300, share=1),
        }
        found = decided(
            waits("1", "bob"), waits("2", "ada"), waits("3", "eve"), waits("4", "bob", priority=1),
            hosts=(host(count=3),),
            accounts=accounts,
        )  # fmt: skip
        assert started(found) == ["4", "2", "3"], "ada and eve weigh 300 each, ada came first"

    def test_a_group_comes_before_its_members(self):
        accounts = {
            "ada": Account(usage=10, group="vision"),
            "eve": Account(usage=500, group="vision"),
            "bob": Account(usage=300, group="speech"),
        }
        runs_ = (waits("1", "ada"), waits("2", "bob"))
        one = (host(count=1),)
        assert started(decided(*runs_, hosts=one, accounts=accounts)) == ["2"]
        shares = {"vision": 2.0}
        assert started(decided(*runs_, hosts=one, accounts=accounts, groups=shares)) == ["1"]

    def test_many_starts_at_one_moment_take_turns(self):
        order = in_turn(
            Snapshot(NOW, (host(),), tuple(waits(f"{i}", "ab"[i > 2]) for i in range(6))),
            unknown=100,
        )
        assert [run.owner for run in order] == ["a", "b", "a", "b", "a", "b"]


class TestWhatFits:
    def test_slots_of_one_host_only(self):
        two = (host("a", 2), host("b", 2, first=2))
        found = decided(waits("1", count=3), waits("2", count=2), hosts=two)
        assert found.why["1"] == "impossible"
        assert [(s.worker, s.slots) for s in found.starts] == [("a", (0, 1))]

    def test_memory_model_and_cores(self):
        small = Host("s", (Slot(9, "gpu", "gpu", 24 * GIB, "NVIDIA L4"),), cores=8)
        hosts = (small, host("big", 1, cores=16))
        found = decided(
            waits("1", needs=gpus(memory=40 * GIB)),
            waits("2", needs=gpus(model="l4", cores=6)),
            waits("3", needs=gpus(model="b200")),
            waits("4", needs=gpus(cores=17)),
            hosts=hosts,
        )
        assert {s.run_id: s.worker for s in found.starts} == {"1": "big", "2": "s"}
        assert (found.why["3"], found.why["4"]) == ("impossible", "impossible")

    def test_cores_are_counted_over_runs(self):
        found = decided(
            waits("1", needs=gpus(cores=10)),
            waits("2", needs=gpus(cores=10)),
            waits("3", needs=gpus(cores=6)),
            hosts=(host(cores=16),),
        )
        assert started(found) == ["1", "3"]

    def test_the_least_able_slot_is_taken(self):
        slots = (Slot(0, "gpu", "gpu", 80 * GIB), Slot(1, "gpu", "gpu", 24 * GIB))
        found = decided(waits("1"), hosts=(Host("a", slots),))
        assert found.starts[0].slots == (1,)

    def test_a_run_starts_where_its_data_is(self):
        svhn = gpus(data="svhn")
        hosts = (
            host("a", 1, datasets=frozenset({"cifar10"})),
            host("b", 1, first=1, datasets=frozenset({"svhn"})),
        )
        found = decided(waits("1", needs=svhn), waits("2"), waits("3", needs=svhn), hosts=hosts)
        assert {s.run_id: s.worker for s in found.starts} == {"1": "b", "2": "a"}
        assert found.why["3"] == "slots"

    def test_a_run_whose_data_no_host_has_holds_up_nobody(self):
        """Not even one of its owner's that is younger and has to gather slots."""
        hosts = (host("a", 2, datasets=frozenset()),)
        wanting = waits("1", needs=gpus(2, data="svhn"))
        busy = (runs("r", 0, seconds=1e4, preemptible=False),)
        found = decided(wanting, waits("2", count=2), hosts=hosts, running=busy)
        assert found.why == {"1": "data-missing", "2": "slots"}
        assert [r.run_id for r in found.reservations] == ["2"]

    def test_a_host_that_does_not_say_may_have_any_data(self):
        assert started(decided(waits("1", needs=gpus(data="svhn")))) == ["1"]

    def test_data_is_blamed_only_where_it_is_what_is_missing(self):
        hosts = (host("a", 1, datasets=frozenset()),)
        assert decided(waits("1", needs=gpus(2, data="x")), hosts=hosts).why["1"] == "impossible"

    def test_a_queue_nobody_serves(self):
        assert decided(waits("1", needs=gpus(queue="night"))).why["1"] == "no-worker"

    def test_what_is_lost_or_shut_is_not_free(self):
        found = decided(waits("1"), hosts=(host(count=1),), lost_slots=frozenset({0}))
        assert not found.starts


class TestQuotas:
    def test_slots_at_once(self):
        accounts = {"ada": Account(most_running=2)}
        found = decided(waits("1"), waits("2", count=2), waits("3"), accounts=accounts)
        assert started(found) == ["1", "3"]
        assert found.why["2"] == "running-quota"

    def test_a_run_that_no_quota_will_ever_admit_is_told_so(self):
        found = decided(waits("1", count=3), accounts={"ada": Account(most_running=2)})
        assert found.why["1"] == "beyond-quota"

    def test_hours_in_a_week_hold_nobody_else(self):
        accounts = {"ada": Account(week=10, most_week=10)}
        found = decided(waits("1"), waits("2", "bob"), accounts=accounts)
        assert (started(found), found.why["1"]) == (["2"], "week-quota")


class TestReservations:
    RUNNING = (runs("r", 0, 1, seconds=1200, preemptible=False),)

    def test_a_large_run_is_not_passed_for_ever(self):
        """Its slots are kept: only what ends in time, or gives way, may use them."""
        large = waits("1", count=4)
        late = waits("2", "eve", seconds=900, preemptible=False)
        short = waits("3", "eve", seconds=500, preemptible=False)
        gives_way = waits("4", "eve")
        found = decided(large, late, short, gives_way, running=self.RUNNING)
        assert started(found) == ["3", "4"]
        assert all(start.backfilled for start in found.starts)
        assert found.why["2"] == "reserved"
        (kept,) = found.reservations
        assert (kept.run_id, kept.at) == ("1", NOW + timedelta(seconds=600))

    def test_the_reason_names_the_reservation_while_there_is_room(self):
        found = decided(
            waits("1", count=4), waits("2", "eve", preemptible=False), running=self.RUNNING
        )
        assert found.why["2"] == "reserved"

    def test_cores_are_kept_as_slots_are(self):
        """Runs that need few of them would go on for ever beside one that needs all."""
        busy = (runs("r", 0, cores=8, seconds=900, preemptible=False),)
        large = waits("1", needs=gpus(cores=32))
        late = waits("2", "eve", needs=gpus(cores=8), seconds=1e4, preemptible=False)
        frugal = waits("3", "eve", seconds=1e4, preemptible=False)
        found = decided(large, late, frugal, running=busy, hosts=(host(cores=32),))
        assert started(found) == ["3"], "it needs no core, and a slot is left"
        assert found.why == {"1": "slots", "2": "reserved", "3": "starts"}
        assert found.reservations[0].at == NOW + timedelta(seconds=300)

    def test_a_turn_is_kept_when_ranks_change(self):
        large = waits("1", count=4, reserved=True)
        other = waits("2", "eve", preemptible=False)
        accounts = {"ada": Account(usage=1e6)}
        found = decided(large, other, running=self.RUNNING, accounts=accounts)
        assert (found.why["2"], found.reservations[0].run_id) == ("reserved", "1")
        above = replace(other, priority=1)
        assert started(decided(large, above, running=self.RUNNING, accounts=accounts)) == ["2"]

    def test_of_an_owners_runs_only_the_first_keeps_slots(self):
        """A younger large one would overtake the older small ones."""
        running = tuple(runs(f"r{i}", i, seconds=600) for i in range(4))
        small, large = waits("1"), waits("2", count=4)
        assert decided(small, large, running=running).reservations == ()
        (kept,) = decided(replace(small, run_id="3"), large, running=running).reservations
        assert kept.run_id == "2"

    def test_slots_that_are_set_aside_keep_nobody_waiting_but_who_needs_them(self):
        large, small = waits("1", count=4), waits("2", "eve", preemptible=False)
        aside = frozenset({3})
        found = decided(large, small, lost_slots=aside)
        assert (found.why["1"], started(found), found.reservations) == ("set-aside", ["2"], ())
        seen = Snapshot(NOW, (host(),), (large, small), lost_slots=aside)
        assert forecast(seen, "1", unknown=60) is None
        assert forecast(seen, "2", unknown=60) == NOW

    def test_a_host_that_has_enough_is_kept_rather_than_one_with_slots_set_aside(self):
        two = (host("a", 4), host("b", 4, first=4))
        busy = (runs("r", 4, 5, seconds=1200, preemptible=False),)
        found = decided(waits("1", count=4), hosts=two, running=busy, lost_slots=frozenset({0}))
        assert [r.worker for r in found.reservations] == ["b"]

    def test_what_slipped_in_gives_way_when_that_is_enough(self):
        filler = runs("f", 0, owner="eve", backfilled=True)
        large = waits("1", count=4)
        accounts = {"eve": Account(usage=1e6)}
        found = decided(large, running=(filler,), accounts=accounts)
        assert found.yields == ("f",)
        later = decided(large, running=(replace(filler, yielding=True),), accounts=accounts)
        assert later.yields == (), "it was asked already"
        assert not later.starts

    def test_who_would_come_first_again_is_not_asked(self):
        """Otherwise the two would take turns for ever."""
        filler = runs("f", 0, owner="eve", backfilled=True)
        accounts = {"ada": Account(usage=1e6)}
        assert decided(waits("1", count=4), running=(filler,), accounts=accounts).yields == ()

    def test_nothing_slips_in_where_somebody_was_asked_to_leave(self):
        victim = runs("v", 0, 1, yielding=True)
        found = decided(
            waits("1", count=4, priority=5), waits("2", "eve", seconds=1), running=(victim,)
        )
        assert not found.starts


class TestPreemption:
    def test_the_youngest_of_the_lowest_gives_way(self):
        running = (
            runs("old", 0, ago=900),
            runs("young", 1, ago=100),
            runs("higher", 2, ago=10, priority=1),
            runs("firm", 3, ago=5, preemptible=False),
        )
        assert decided(waits("1", priority=2), running=running).yields == ("young",)

    def test_nobody_is_asked_who_leaves_nothing_that_is_needed(self):
        two = (*host(count=2).slots, Slot(9, "cpu", "cpu"))
        running = (
            runs("elsewhere", 9, ago=10),
            runs("cores", 0, ago=900, cores=30),
            runs("few", 1, ago=20, cores=2),
        )
        found = decided(
            waits("1", needs=gpus(cores=20), priority=1),
            running=running,
            hosts=(Host("a", two, cores=32),),
        )
        assert "elsewhere" not in found.yields
        assert "cores" in found.yields

    def test_equals_do_not_push_each_other_out(self):
        running = tuple(runs(f"{i}", i) for i in range(4))
        found = decided(waits("5"), running=running)
        assert (found.yields, found.why["5"]) == ((), "slots")

    def test_nobody_gives_way_where_it_would_not_be_enough(self):
        running = (runs("a", 0, 1), runs("firm", 2, 3, preemptible=False))
        assert decided(waits("1", count=4, priority=9), running=running).yields == ()


class TestPreemptionMakesRoom:
    CIRCLE = Snapshot(
        NOW,
        (host("a", 4), host("b", 2, first=4)),
        (
            waits("00", "Q", 2),
            waits("01", "P", 4, priority=1, reserved=True),
            waits("02", "Q", 3, priority=1, preemptible=False),
        ),
        (runs("r0", 0, owner="P"), runs("r1", 1, owner="Q", preemptible=False)),
        {"P": Account(most_running=4), "Q": Account(usage=660)},
    )
    """While r0 runs, its owner's quota holds 01, and 02 is first; without r0, 01 is."""

    def test_nobody_is_preempted_for_a_run_that_then_comes_second(self):
        assert plan(self.CIRCLE).yields == ()

    def test_the_lab_comes_to_rest(self):
        assert_rest(self.CIRCLE)


class TestForecast:
    def test_runs_are_laid_one_after_the_other(self):
        running = tuple(runs(f"r{i}", i, ago=0, seconds=100 * (i + 1)) for i in range(4))
        queue = (waits("1", seconds=1000), waits("2", seconds=50), waits("3", count=2, seconds=9))
        seen = Snapshot(NOW, (host(),), queue, running)
        told = [forecast(seen, f"{i}", unknown=60) for i in (1, 2, 3)]
        assert [(at - NOW).total_seconds() for at in told] == [100, 200, 300]

    def test_what_no_host_could_run_has_no_start(self):
        seen = Snapshot(NOW, (host(),), (waits("1", count=9),))
        assert forecast(seen, "1", unknown=60) is None


needs = st.builds(
    gpus,
    st.integers(1, 4),
    cores=st.sampled_from([0, 0, 4, 12]),
    data=st.sampled_from(["", "", "svhn"]),
)
reports = st.sampled_from([None, None, frozenset[str](), frozenset({"svhn"})])
people = st.sampled_from(["ada", "bob", "eve"])


@st.composite
def labs(draw) -> Snapshot:
    """Any lab of two hosts, part of whose slots are busy."""
    hosts = (
        host("a", 4, cores=16, datasets=draw(reports)),
        host("b", 2, first=4, datasets=draw(reports)),
    )
    busy = draw(st.sets(st.integers(0, 5)))
    aside = draw(st.sets(st.integers(0, 5), max_size=2)) - busy
    running = tuple(
        runs(
            f"r{slot}",
            slot,
            owner=draw(people),
            priority=draw(st.integers(-1, 1)),
            seconds=draw(st.none() | st.floats(1, 1e5)),
            preemptible=draw(st.booleans()),
            backfilled=draw(st.booleans()),
            cores=draw(st.sampled_from([0, 0, 4])),
        )
        for slot in sorted(busy)
    )
    waiting = tuple(
        Waiting(
            f"{i:02d}",
            draw(people),
            draw(needs),
            draw(st.integers(-1, 1)),
            draw(st.none() | st.floats(1, 1e5)),
            draw(st.booleans()),
            draw(st.booleans()),
        )
        for i in range(draw(st.integers(0, 6)))
    )
    accounts = {
        name: Account(
            usage=draw(st.floats(0, 1e5)),
            share=float(draw(st.fractions(Fraction(1, 4), 4))),
            most_running=draw(st.none() | st.integers(0, 4)),
            group=draw(st.sampled_from([None, "vision"])),
        )
        for name in ("ada", "bob", "eve")
    }
    groups = {"vision": draw(st.sampled_from([0.5, 2.0]))}
    return Snapshot(NOW, hosts, waiting, running, accounts, groups, frozenset(aside))


@settings(max_examples=examples(300), deadline=None)
@given(labs(), st.sampled_from([None, "a", "b"]))
def test_laws_of_every_plan(seen, asking):
    found = plan(seen, worker=asking)
    where = {slot.id: one.worker for one in seen.hosts for slot in one.slots}
    busy = {slot for run in seen.running for slot in run.slots}
    given_out = [slot for start in found.starts for slot in start.slots]
    assert len(given_out) == len(set(given_out)), "no slot twice"
    assert busy.isdisjoint(given_out), "no slot that is held"
    assert seen.lost_slots.isdisjoint(given_out), "none that is set aside"
    by_id = {run.run_id: run for run in seen.waiting}
    for start in found.starts:
        assert {where[slot] for slot in start.slots} == {start.worker}, "one host"
        assert len(start.slots) == by_id[start.run_id].needs.slots
        assert found.why[start.run_id] == "starts"
        (there,) = (one for one in seen.hosts if one.worker == start.worker)
        assert there.has(by_id[start.run_id].needs.data), "its data is there"
    assert set(found.why) == set(by_id), "everybody is told why"
    holds: dict[str, int] = {}
    for owner, slots in (
        *((run.owner, run.slots) for run in seen.running),
        *((by_id[start.run_id].owner, start.slots) for start in found.starts),
    ):
        holds[owner] = holds.get(owner, 0) + len(slots)
    for owner in {by_id[start.run_id].owner for start in found.starts}:
        most = seen.accounts[owner].most_running
        assert most is None or holds[owner] <= most
    used = sum(run.cores for run in seen.running if run.slots[0] < 4)
    used += sum(by_id[start.run_id].needs.cores for start in found.starts if start.worker == "a")
    new = [start.run_id for start in found.starts if start.worker == "a"]
    assert used <= 16 or not any(by_id[run_id].needs.cores for run_id in new), "cores suffice"
    kept = [slot for reservation in found.reservations for slot in reservation.slots]
    assert len(kept) == len(set(kept)), "no slot is kept twice"
    assert seen.lost_slots.isdisjoint(kept)
    assert len(found.yields) == len(set(found.yields)), "nobody is asked twice"
    for run_id in found.yields:
        victim = next(run for run in seen.running if run.run_id == run_id)
        assert victim.preemptible


@settings(max_examples=examples(200), deadline=None)
@given(labs())
def test_a_free_slot_and_a_run_that_fits_do_not_wait_for_each_other(seen):
    """Unless slots are kept for another, who is named, or a quota holds it, whoever fits starts."""
    found = plan(seen)
    taken = {slot for run in seen.running for slot in run.slots} | seen.lost_slots
    taken |= {slot for start in found.starts for slot in start.slots}
    for run in seen.waiting:
        why = found.why[run.run_id]
        if why == "reserved":
            assert {r.run_id for r in found.reservations} - {run.run_id}
        elif why == "slots" and not run.needs.cores:
            room = max(
                sum(slot.id not in taken for slot in one.slots)
                for one in seen.hosts
                if one.has(run.needs.data)
            )
            assert room < run.needs.slots


@settings(max_examples=examples(200), deadline=None)
@given(labs())
def test_carrying_out_plans_comes_to_rest(seen):
    """Starts and preemptions at one moment end: nobody is preempted and started for ever."""
    assert_rest(seen)


@settings(max_examples=examples(200), deadline=None)
@given(labs())
def test_who_is_preempted_makes_room_for_a_run_that_starts_next(seen):
    assert_room_is_used(seen)


def assert_rest(seen: Snapshot) -> None:
    for _ in range(30):
        decided = plan(seen)
        if not decided.starts and not decided.yields:
            return
        seen = carried_out(seen, decided)
    pytest.fail("the plans go round in circles")


def assert_room_is_used(seen: Snapshot) -> None:
    """Each preempted run's slots go to a run that starts with the next plan, nothing new being
    submitted, and not to the preempted run itself."""
    decided = plan(seen)
    following = carried_out(seen, decided)
    starts = plan(following).starts
    for run_id in decided.yields:
        slots = next(run.slots for run in seen.running if run.run_id == run_id)
        assert any(
            start.run_id != run_id and not set(start.slots).isdisjoint(slots) for start in starts
        ) or any(start.run_id in imminent(decided) for start in starts)


def imminent(decided: Plan) -> set[str]:
    return {reservation.run_id for reservation in decided.reservations if reservation.imminent}


def carried_out(seen: Snapshot, found: Plan) -> Snapshot:
    """The lab a moment later; who gave way is queued again with the charge of its attempt."""
    by_id = {run.run_id: run for run in seen.waiting}
    running = [run for run in seen.running if run.run_id not in found.yields]
    back = [
        Waiting(run.run_id, run.owner, gpus(len(run.slots)), run.priority, run.seconds)
        for run in seen.running
        if run.run_id in found.yields
    ]
    accounts = dict(seen.accounts)
    for start in found.starts:
        run = by_id[start.run_id]
        running.append(
            Running(
                run.run_id,
                run.owner,
                start.slots,
                seen.now,
                run.priority,
                seconds=run.seconds,
                preemptible=run.preemptible,
                backfilled=start.backfilled,
            )
        )
        account = accounts[run.owner]
        accounts[run.owner] = replace(account, usage=account.usage + 60.0 * len(start.slots))
    started_ids = {start.run_id for start in found.starts}
    kept = {reservation.run_id for reservation in found.reservations}
    left = (run for run in seen.waiting if run.run_id not in started_ids)
    waiting = (*(replace(r, reserved=r.reserved or r.run_id in kept) for r in left), *back)
    return replace(seen, waiting=waiting, running=tuple(running), accounts=accounts)
