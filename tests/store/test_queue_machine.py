"""Submit, claim, renew, expire, cancel, preempt, pause and finish in any order, on both databases.

After every step the laws of the queue hold.
"""

from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from domain.errors import Fenced, InvalidTransition, SpecInvalid
from domain.presets import expand
from domain.run_state import RunState
from domain.schedule import plan
from store import fleet, positions, queue, runs, snapshots
from store.engine import reading, writing
from store.rows import Reaped, SlotSpec
from tests.examples import examples
from tests.store.databases import LEASE, NOW, fresh_engine
from tests.store.making import live_leases, reads

MAX_ATTEMPTS = 3
WORKERS = {"w1": 2, "w2": 1}
SHORT = expand({"preset": "part++", "data": {"dataset": "digits"}})
ELSEWHERE = expand({"preset": "part++", "data": {"dataset": "svhn"}})
"""A run of data that not every host has."""
moments = st.sampled_from([0.5, 5.0, 20.0, 29.0])


class QueueMachine(RuleBasedStateMachine):
    """The store's queue and what a person would expect of it."""

    kind = "sqlite"
    submitted = Bundle("submitted")
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.context = fresh_engine(self.kind)
        self.engine = self.context.__enter__()
        self.now = NOW
        self.attempts: Counter[str] = Counter()
        self.ended: dict[str, RunState] = {}
        self.slots: dict[tuple[str, int], set[int]] = {}
        self.frozen: set[int] = set()
        """Slots whose lease was lost and whose host has not said that nothing is left there."""
        self.datasets: dict[str, tuple[str, ...] | None] = {}
        """What workers reported last."""
        self.told: set[tuple[str, int]] = set()
        """Attempts that were said to be over: nothing of theirs may be written any more."""

    def teardown(self) -> None:
        """Drop the database."""
        self.context.__exit__(None, None, None)

    # -- what happens -------------------------------------------------------------------------

    @initialize(target=submitted)
    def offer(self):
        """Two hosts, three slots, four runs."""
        for name in WORKERS:
            self.register(name)
        wants = (("ada", 1), ("bob", 1), ("ada", 2), ("bob", 1))
        return multiple(*(self.submit_one(*want) for want in wants))

    def register(self, name: str) -> None:
        slots = [SlotSpec("cpu", i, "CPU") for i in range(WORKERS[name])]
        with writing(self.engine) as connection:
            fleet.register_worker(
                connection, name=name, host=name, pid=1, offered=slots, now=self.now
            )

    @rule(
        target=submitted,
        owner=st.sampled_from(["ada", "bob"]),
        priority=st.integers(-1, 1),
        slots=st.integers(1, 2),
        preemptible=st.booleans(),
        spec=st.sampled_from([SHORT, SHORT, ELSEWHERE]),
    )
    def submit(self, owner, priority, slots, preemptible, spec):
        """Queue a run."""
        return self.submit_one(owner, slots, priority, preemptible=preemptible, spec=spec)

    def submit_one(self, owner, slots, priority=0, *, preemptible=True, spec=SHORT):
        resources = spec.resources.model_copy(
            update={"cpu_slots": slots, "preemptible": preemptible}
        )
        spec = spec.model_copy(update={"priority": priority, "resources": resources})
        self.now += timedelta(seconds=1)  # ids of one moment have no order
        with writing(self.engine) as connection:
            return runs.submit(connection, spec=spec, owner=owner, now=self.now).run.id

    @rule(target=submitted, before=submitted)
    def submit_after(self, before):
        """Queue a run that follows another."""
        spec = SHORT.model_copy(update={"after": (before,)})
        self.now += timedelta(seconds=1)
        try:
            with writing(self.engine) as connection:
                return runs.submit(connection, spec=spec, owner="ada", now=self.now).run.id
        except SpecInvalid:
            assert self.ended[before] is not RunState.SUCCEEDED
            return multiple()

    @rule(target=held, worker=st.sampled_from(sorted(WORKERS)))
    def claim(self, worker):
        """A worker asks for a run."""
        self.now += timedelta(seconds=2)
        with writing(self.engine) as connection:
            found = queue.claim(connection, worker=worker, now=self.now, lease=LEASE)
        if found is None:
            return multiple()
        assert found.attempt == self.attempts[found.run.id] + 1, "attempts rise by one"
        assert found.run.id not in self.ended, "what is over does not start"
        assert not found.run.held, "what is paused does not start"
        assert {slot.worker for slot in found.slots} == {worker}
        if found.run.spec["data"]["dataset"] == "svhn":
            assert self.datasets.get(worker) in (None, ("svhn",)), "its data is not there"
        taken = {slot.id for slot in found.slots}
        assert taken.isdisjoint(self.frozen), "a process may be left there"
        self.attempts[found.run.id] += 1
        self.slots[found.run.id, found.attempt] = taken
        return (found.run.id, found.attempt)

    @rule(worker=st.sampled_from(sorted(WORKERS)))
    def confirm(self, worker):
        """A worker says that no process is left on slots whose lease was lost."""
        with writing(self.engine) as connection:
            fleet.worker_alive(connection, worker, busy_slots=set(), now=self.now)
            mine = {slot.id for slot in fleet.slots_of(connection, worker)}
        self.frozen -= mine

    @rule(worker=st.sampled_from(sorted(WORKERS)), datasets=st.sampled_from([(), ("svhn",), None]))
    def report(self, worker, datasets):
        """A worker tells which datasets it has by now."""
        with writing(self.engine) as connection:
            reads(connection, worker, datasets, now=self.now)
        self.datasets[worker] = datasets

    @rule(lease=held)
    def renew(self, lease):
        """An owner renews, or learns that it owns nothing."""
        with suppress(Fenced), writing(self.engine) as connection:
            beat = queue.renew(connection, *lease, now=self.now, lease=LEASE)
            assert lease not in self.told, "a lease that ended was renewed"
            assert beat.expires_at == self.now + LEASE

    @rule(seconds=moments)
    def wait(self, seconds):
        """Time passes; the reaper looks, as it does at every turn of a worker."""
        self.now += timedelta(seconds=seconds)
        with writing(self.engine) as connection:
            found = queue.reap(connection, now=self.now, lease=LEASE, max_attempts=MAX_ATTEMPTS)
        for lost in found:
            self.mourn(lost)

    def mourn(self, lost: Reaped) -> None:
        """Remember a loss, once it is committed: the ends of followers are not seen before."""
        lease = (lost.run_id, lost.attempt)
        self.told.add(lease)
        self.frozen |= self.slots[lease]
        self.note(lost.run_id, lost.outcome)

    @rule(lease=consumes(held), to=st.sampled_from([RunState.SUCCEEDED, RunState.FAILED]))
    def finish(self, lease, to):
        """An attempt ends by itself."""
        self.give_up(
            lease,
            lambda c: (
                runs.transition(c, lease[0], to=to, now=self.now, reason="", attempt=lease[1]).state
            ),
        )

    @rule(lease=consumes(held))
    def lose(self, lease):
        """A supervisor sees its child die."""
        self.give_up(
            lease,
            lambda c: queue.requeue(
                c, *lease, now=self.now, reason="died", max_attempts=MAX_ATTEMPTS
            ),
        )

    @rule(lease=consumes(held))
    def give_way(self, lease):
        """A supervisor hands its run back after a checkpoint."""

        def work(connection) -> RunState:
            queue.hand_back(connection, *lease, now=self.now, reason="", ending="gave-way")
            return runs.get(connection, lease[0]).state

        self.give_up(lease, work)

    def give_up(self, lease, work) -> None:
        try:
            with writing(self.engine) as connection:
                state = work(connection)
        except Fenced:
            return
        except InvalidTransition:
            assert False, "an owner may always end its attempt"  # noqa: B011, PT015
        assert lease not in self.told, "an attempt that was over wrote"
        self.told.add(lease)
        self.note(lease[0], state)

    @invariant()
    def zombies_change_nothing(self):
        """Everybody whose attempt is over tries to end the run all the same."""
        for run_id, attempt in sorted(self.told):
            with pytest.raises(Fenced), writing(self.engine) as connection:
                runs.transition(
                    connection,
                    run_id,
                    to=RunState.SUCCEEDED,
                    now=self.now,
                    reason="",
                    attempt=attempt,
                )

    @rule(run_id=submitted)
    def cancel(self, run_id):
        """Somebody cancels."""
        try:
            with writing(self.engine) as connection:
                state = runs.request_cancel(connection, run_id, now=self.now, actor="ada").state
        except InvalidTransition:
            assert run_id in self.ended
            return
        self.note(run_id, state)

    @rule(run_id=submitted, held_now=st.booleans())
    def hold(self, run_id, held_now):
        """Somebody pauses, or lets go on."""
        with suppress(InvalidTransition), writing(self.engine) as connection:
            queue.hold(connection, run_id, held=held_now, now=self.now, actor="ada")

    @rule(worker=st.sampled_from(sorted(WORKERS)))
    def restart(self, worker):
        """A worker was killed, and comes back under its name."""
        with writing(self.engine) as connection:
            found = queue.recover(
                connection, worker=worker, now=self.now, max_attempts=MAX_ATTEMPTS
            )
        for lost in found:
            self.mourn(lost)
        self.register(worker)

    @rule(run_id=submitted)
    def ask(self, run_id):
        """Somebody asks why."""
        with reading(self.engine) as connection:
            told = positions.position(connection, run_id, self.now)
            assert (told.why == "state") == (
                runs.get(connection, run_id).state is not RunState.QUEUED
            )

    def note(self, run_id: str, state: RunState) -> None:
        """Remember an end, and the ends of those that followed."""
        if state.is_terminal:
            assert run_id not in self.ended, "a run ended twice"
            self.ended[run_id] = state
        with reading(self.engine) as connection:
            page = runs.find(connection, states=[RunState.FAILED], limit=200)
            for row in page.items:
                self.ended.setdefault(row.id, row.state)

    # -- what always holds --------------------------------------------------------------------

    @invariant()
    def leases_and_states_agree(self) -> None:
        """One live attempt a running run, with its slots; none of any other; no slot twice."""
        with reading(self.engine) as connection:
            live = live_leases(connection)
            rows = runs.find(connection, limit=200).items
        assert len({row.slot_id for row in live}) == len(live), "a slot has two owners"
        by_run: dict[str, set[int]] = {}
        for row in live:
            by_run.setdefault(row.run_id, set()).add(row.attempt)
        for row in rows:
            if row.state.holds_lease:
                assert by_run.get(row.id) == {row.attempt}
                ranks = sorted(lease.rank for lease in live if lease.run_id == row.id)
                assert ranks == list(range(row.spec["resources"]["cpu_slots"]))
            else:
                assert row.id not in by_run
            assert row.attempt == self.attempts[row.id]
            if row.id in self.ended:
                assert row.state is self.ended[row.id], "an end is final"

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Where somebody fits, somebody starts, or the slots are kept for another by name."""
        with reading(self.engine) as connection:
            seen = snapshots.snapshot(connection, self.now, whole=True)
        taken = {slot for run in seen.running for slot in run.slots} | seen.lost_slots
        free = {host: sum(s.id not in taken for s in host.slots) for host in seen.hosts}
        fitting = {
            run.run_id
            for run in seen.waiting
            for host, room in free.items()
            if run.needs.slots <= room and host.has(run.needs.data)
        }
        found = plan(seen)
        if fitting and not found.starts:
            assert {found.why[run_id] for run_id in fitting} == {"reserved"}
            assert {r.run_id for r in found.reservations} - fitting, "kept for who fits nowhere yet"


@pytest.mark.random
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_laws_hold_whatever_happens(kind):
    machine = type("Machine", (QueueMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(40 if kind == "sqlite" else 15),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
