"""What must hold whatever happens: pure functions of what was seen and of what was kept.

Each returns sentences, one a violation.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from tests.chaos.chain import undisturbed
from tests.chaos.lab import POLL, Left
from tests.chaos.watch import History, Lease, Sample

Samples = Sequence[Sample | None]
DYING = 0.5
"""Seconds that the kernel gets to end a process that was killed or thawed past its lease."""
PATIENCE = 2 * POLL
"""Within which a run that may start on a free slot has started."""


def one_live_lease(samples: Samples, histories: Sequence[History]) -> Iterator[str]:
    """No run has two live leases, ever."""
    for sample in filter(None, samples):
        live = Counter(lease.run_id for lease in sample.leases if lease.ended_at is None)
        for run_id, count in live.items():
            if count > 1:
                yield f"run {run_id} had {count} live leases"
    for history in histories:
        for before, after in pairwise(history.leases):
            if before.ended_at is None or before.ended_at > after.started_at:
                yield (
                    f"run {history.run_id}: attempt {after.attempt} began before the lease of "
                    f"{before.attempt} ended"
                )


def attempts_rise(samples: Samples, histories: Sequence[History]) -> Iterator[str]:
    """Attempts only rise, one by one."""
    for before, after in pairwise(filter(None, samples)):
        for run_id, (_, attempt) in after.runs.items():
            if run_id in before.runs and before.runs[run_id][1] > attempt:
                yield f"run {run_id} fell from attempt {before.runs[run_id][1]} to {attempt}"
    for history in histories:
        counted = [lease.attempt for lease in history.leases]
        if counted != list(range(1, len(counted) + 1)):
            yield f"run {history.run_id} had the attempts {counted}"


def ends_are_final(samples: Samples, histories: Sequence[History]) -> Iterator[str]:
    """What has ended stays so."""
    for before, after in pairwise(filter(None, samples)):
        for run_id, (state, _) in before.runs.items():
            if state.is_terminal and after.runs[run_id][0] is not state:
                yield f"run {run_id} was {state} and became {after.runs[run_id][0]}"
    for history in histories:
        ends = [
            state for state, _ in history.events if state in ("succeeded", "failed", "cancelled")
        ]
        if not history.state.is_terminal:
            yield f"run {history.run_id} never ended: it is {history.state}"
        elif ends != [history.state]:
            yield f"run {history.run_id} ended as {ends}"


def ends_are_right(_: Samples, histories: Sequence[History]) -> Iterator[str]:
    """A run succeeds, unless somebody cancelled it or the disk was full."""
    for history in histories:
        cancelled = history.state == "cancelled" and history.cancelled
        full = history.state == "failed" and history.failure == "disk-full"
        if history.state.is_terminal and history.state != "succeeded" and not cancelled | full:
            yield f"run {history.run_id} is {history.state}: {history.failure or 'nobody asked'}"


def slots_suffice(samples: Samples, _: Sequence[History]) -> Iterator[str]:
    """A host has no more leases or running children than slots, a slot no more than one."""
    for sample in filter(None, samples):
        live = [lease for lease in sample.leases if lease.ended_at is None]
        for slot, count in Counter(lease.slot for lease in live).items():
            if count > 1:
                yield f"slot {slot} had {count} leases"
        running = Counter(p.host for p in sample.left if p.leads and not p.frozen)
        for what, counts in (
            ("leases", Counter(lease.worker for lease in live)),
            ("children", running),
        ):
            for host, count in counts.items():
                if count > sample.devices.get(host, 0):
                    yield f"host {host} had {count} {what} on {sample.devices.get(host, 0)} slots"


def runnable_runs_start(samples: Samples, _: Sequence[History]) -> Iterator[str]:
    """Where a slot is free, a run that may start does so within two polls."""
    since: dict[str, Sample] = {}
    for sample in samples:
        if sample is None or not sample.calm or sample.free == 0:
            since.clear()
            continue
        since = {run_id: since.get(run_id, sample) for run_id in sample.waiting}
        for run_id, first in since.items():
            waited = (sample.at - first.at).total_seconds()
            if waited > PATIENCE:
                yield f"run {run_id} waited {waited:.1f} s beside a free slot"


def metrics_are_whole(_: Samples, histories: Sequence[History]) -> Iterator[str]:
    """Metrics have neither gaps nor doubles."""
    for history in _finished(histories):
        expected = list(enumerate(undisturbed(history.seed, steps(history))[1]))
        if list(history.points) != expected:
            told = [step for step, _ in history.points]
            yield f"run {history.run_id} has other metrics than an undisturbed one: steps {told}"


def weights_are_right(_: Samples, histories: Sequence[History]) -> Iterator[str]:
    """Final weights are those of an undisturbed run."""
    for history in _finished(histories):
        if history.weights != undisturbed(history.seed, steps(history))[0]:
            yield f"run {history.run_id} has other weights than an undisturbed one"


def no_child_survives(samples: Samples, _: Sequence[History]) -> Iterator[str]:
    """No child runs on after its lease."""
    since: dict[int, Sample] = {}
    for sample in samples:
        if sample is None:
            since.clear()
            continue
        ended = {(lease.run_id, lease.attempt): lease for lease in sample.leases}
        outlived = [p for p in sample.left if _outlives(p, ended, sample)]
        since = {p.pid: since.get(p.pid, sample) for p in outlived}
        for process in outlived:
            seconds = (sample.at - since[process.pid].at).total_seconds()
            if seconds > DYING:
                yield f"attempt {process.attempt} of run {process.run_id} outlived its lease"


def _outlives(process: Left, leases: Mapping[tuple[str, int], Lease], sample: Sample) -> bool:
    if process.frozen or not process.leads:
        return False
    lease = leases.get((process.run_id, process.attempt))
    return lease is None or (lease.ended_at is not None and lease.ended_at < sample.at)


def nothing_is_left(samples: Samples, _: Sequence[History]) -> Iterator[str]:
    """When all has ended, no process remains."""
    last = next(filter(None, reversed(samples)), None)
    if last is not None:
        for process in last.left:
            yield f"process {process.pid} of run {process.run_id} was left behind"


def steps(history: History) -> int:
    """How long a run was meant to be."""
    return int(history.name.rpartition("-")[2])


def stopping_workers_begin_nothing(samples: Samples, _: Sequence[History]) -> Iterator[str]:
    """A worker that is to stop begins no attempt."""
    looks = [sample for sample in samples if sample is not None]
    # Of three: one that was frozen in between may not have seen its signal.
    for before, between, after in zip(looks, looks[1:], looks[2:], strict=False):
        known = before.stopping & between.stopping & after.stopping
        for lease in after.leases:
            if lease.worker in known and lease.started_at > between.at:
                yield f"{lease.worker} began run {lease.run_id} attempt {lease.attempt}"


def _finished(histories: Iterable[History]) -> Iterator[History]:
    return (history for history in histories if history.state == "succeeded")


INVARIANTS: Mapping[str, Callable[[Samples, Sequence[History]], Iterator[str]]] = {
    "one live lease a run": one_live_lease,
    "attempts only rise": attempts_rise,
    "ends are final": ends_are_final,
    "ends are right": ends_are_right,
    "slots suffice": slots_suffice,
    "runnable runs start within two polls": runnable_runs_start,
    "metrics without gaps or doubles": metrics_are_whole,
    "weights of an undisturbed run": weights_are_right,
    "no child survives its lease": no_child_survives,
    "no process is left": nothing_is_left,
    "a stopping worker begins nothing": stopping_workers_begin_nothing,
}


def violations(samples: Samples, histories: Sequence[History]) -> dict[str, list[str]]:
    """Return what was violated, and how; each sentence once."""
    told: dict[str, list[str]] = defaultdict(list)
    for name, invariant in INVARIANTS.items():
        for sentence in dict.fromkeys(invariant(samples, histories)):
            told[name].append(sentence)
    return dict(told)
