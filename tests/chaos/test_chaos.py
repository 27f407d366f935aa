"""A few sequences of ``make chaos``, and what the invariants say of observations that are wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.run_state import RunState
from tests.chaos.chain import undisturbed
from tests.chaos.driver import sequence
from tests.chaos.invariants import INVARIANTS, violations
from tests.chaos.lab import Left, chaos_lab
from tests.chaos.watch import History, Lease, Sample
from tests.store.databases import KINDS, after

WEIGHTS, LOSSES = undisturbed(7, 3)
LEASES = (
    Lease("run", 1, 1, "ada", after(0), after(5)),
    Lease("run", 2, 2, "bob", after(6), after(9)),
)
KEPT = History(
    run_id="run",
    name="steady-3",
    seed=7,
    state=RunState.SUCCEEDED,
    attempt=2,
    failure="",
    cancelled=False,
    events=(("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("succeeded", 2)),
    leases=LEASES,
    points=tuple(enumerate(LOSSES)),
    weights=WEIGHTS,
)
CHILD = Left(pid=7, run_id="run", attempt=2, host="bob", frozen=False, leads=True)
RUNNING = Sample(
    at=after(8),
    calm=True,
    left=(CHILD,),
    runs={"run": (RunState.RUNNING, 2)},
    waiting=frozenset(),
    free=1,
    devices={"ada": 1, "bob": 1},
    leases=(LEASES[0], replace(LEASES[1], ended_at=None)),
)
OVER = replace(RUNNING, at=after(10), left=(), runs={"run": (RunState.SUCCEEDED, 2)}, leases=LEASES)


def later(sample, seconds):
    return replace(sample, at=sample.at + timedelta(seconds=seconds))


TWICE = replace(RUNNING, leases=tuple(replace(lease, ended_at=None) for lease in LEASES))
WAITING = replace(OVER, runs={"run": (RunState.QUEUED, 2)}, waiting=frozenset({"run"}))
OUTLIVING = replace(OVER, left=(CHILD,))
STOPPED = replace(
    RUNNING,
    at=after(5),
    leases=LEASES[:1],
    runs={"run": (RunState.QUEUED, 1)},
    left=(),
    stopping=frozenset({"bob"}),
)
RESTLESS = replace(RUNNING, stopping=frozenset({"bob"}))
WRONG = {
    "one live lease a run": ([TWICE, OVER], KEPT),
    "attempts only rise": ([OVER, replace(OVER, runs={"run": (RunState.SUCCEEDED, 1)})], KEPT),
    "ends are final": ([OVER, replace(OVER, runs={"run": (RunState.QUEUED, 2)})], KEPT),
    "ends are right": (
        [replace(OVER, runs={"run": (RunState.FAILED, 2)})],
        replace(
            KEPT,
            state=RunState.FAILED,
            failure="infrastructure",
            events=(*KEPT.events[:-1], ("failed", 2)),
        ),
    ),
    "slots suffice": ([replace(RUNNING, devices={"ada": 1, "bob": 0}), OVER], KEPT),
    "runnable runs start within two polls": ([WAITING, later(WAITING, 2)], KEPT),
    "metrics without gaps or doubles": ([OVER], replace(KEPT, points=KEPT.points[:1] * 2)),
    "weights of an undisturbed run": ([OVER], replace(KEPT, weights="0" * 64)),
    "no child survives its lease": ([OUTLIVING, later(OUTLIVING, 1), later(OVER, 2)], KEPT),
    "no process is left": ([OVER, replace(OVER, left=(replace(CHILD, leads=False),))], KEPT),
    "a stopping worker begins nothing": ([STOPPED, later(STOPPED, 0), RESTLESS, OVER], KEPT),
}


def test_what_is_well_violates_nothing():
    assert violations([RUNNING, None, OVER], [KEPT]) == {}


@pytest.mark.parametrize("name", INVARIANTS)
def test_each_invariant_sees_what_is_wrong_and_no_other_does(name):
    samples, kept = WRONG[name]
    assert set(violations(samples, [kept])) == {name}


def test_a_run_that_waits_while_a_fault_is_in_force_or_no_slot_is_free_waits_rightly():
    for sample in (replace(WAITING, calm=False), replace(WAITING, free=0)):
        assert violations([sample, later(sample, 60), later(OVER, 61)], [KEPT]) == {}


@pytest.mark.acceptance
@pytest.mark.xdist_group("chaos")
@pytest.mark.parametrize("kind", KINDS)
def test_random_faults_violate_nothing(kind, tmp_path):
    with chaos_lab(kind, tmp_path) as lab:
        for seed in (0, 2):
            outcome = sequence(lab, seed)
            assert not outcome.violated, outcome
            assert all(history.attempt >= 1 for history in outcome.histories)
