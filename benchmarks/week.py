"""A week of a lab's queue, simulated: ``python -m benchmarks.week``.

Replays synthetic jobs through the planner that the lab runs (``domain.schedule``), and through the
same planner told less: first come, first served, and plain priority. Prints waiting times, fairness
among users who ask for the same, utilisation against a lower bound, and how far off the forecasts
of starts were. Nothing is random but what ``--seed`` draws, and no clock is read.
"""

import argparse
import heapq
import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from benchmarks.progress import say
from domain.schedule import (
    LEAST_CHARGE,
    Account,
    Host,
    Needs,
    Plan,
    Running,
    Slot,
    Snapshot,
    Waiting,
    decayed,
    forecast,
    plan,
)

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = 7 * 86400.0
HOSTS, GPUS = 4, 4
USERS = tuple(f"user-{i}" for i in range(10))
SIZES = {1: 0.8, 2: 0.12, 4: 0.08}
"""Share of jobs by GPUs."""
RESTART = 15.0
"""Seconds that giving way costs: the step in progress, imports, the data."""
LOAD = 1.15
"""Work submitted in the week over what the GPUs can do in it."""


@dataclass(frozen=True)
class Job:
    """What is submitted, and what only time shows."""

    run_id: str
    owner: str
    family: int
    """Jobs of one family take about as long: what a forecast may know."""
    submitted: float
    seconds: float
    gpus: int
    priority: int = 0
    preemptible: bool = True


def jobs(count: int, seed: int) -> list[Job]:
    """Draw a week: users who ask for as much GPU time each, some evenly, some all at once.

    Durations are log-normal within families whose medians span a factor of a hundred.
    """
    chance = random.Random(seed)
    mean_gpus = sum(gpus * share for gpus, share in SIZES.items())
    mean_seconds = LOAD * WEEK * HOSTS * GPUS / count / mean_gpus
    medians = [math.exp(chance.gauss(0, 1)) for _ in range(40)]
    raw = []
    for i in range(count):
        family = chance.randrange(len(medians))
        seconds = medians[family] * math.exp(chance.gauss(0, 0.25))
        gpus = chance.choices(list(SIZES), list(SIZES.values()))[0]
        raw.append((USERS[i % len(USERS)], family, seconds, gpus, chance.random()))
    by_user: dict[str, float] = defaultdict(float)
    for owner, _, seconds, gpus, _ in raw:
        by_user[owner] += seconds * gpus
    share = mean_seconds * mean_gpus * count / len(USERS)
    made = [
        (_arrival(USERS.index(owner), when), owner, family, seconds * share / by_user[owner], gpus)
        for owner, family, seconds, gpus, when in raw
    ]
    return [
        Job(f"{i:06d}", owner, family, at, seconds, gpus, 10 if chance.random() < 0.03 else 0)
        for i, (at, owner, family, seconds, gpus) in enumerate(sorted(made))
    ]


def _arrival(user: int, when: float) -> float:
    """Even users come all week, odd ones on Monday morning or in three bursts."""
    if user % 2 == 0:
        return when * WEEK * 0.9
    if user % 4 == 1:
        return when * 4 * 3600
    return math.floor(when * 3) * 2 * 86400 + (when * 3 % 1) * 3600


@dataclass
class Lab:
    """The state of a simulated lab."""

    knows_priority: bool = True
    knows_users: bool = True
    knows_durations: bool = True
    gives_way: bool = True
    forecasts: int = 0
    """How many starts to forecast, evenly over the jobs."""
    now: float = 0.0
    lines: dict[tuple[str, Needs, int], list[tuple[str, Waiting]]] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)
    usage: dict[str, tuple[float, float]] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    told: dict[str, float | None] = field(default_factory=dict)
    """Forecast waiting time by run."""
    yields: int = 0
    took: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    backlog: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)
    """From, to, GPUs held by owner: while every user had something waiting."""

    hosts = tuple(
        Host(f"host-{h}", tuple(Slot(h * GPUS + i, "gpu", "gpu") for i in range(GPUS)))
        for h in range(HOSTS)
    )

    def run(self, week: Sequence[Job]) -> None:
        """Replay the jobs to the end of the last."""
        self.jobs = {job.run_id: job for job in week}
        every = max(1, len(week) // self.forecasts) if self.forecasts else len(week) + 1
        events: list[tuple[float, int, str]] = [(job.submitted, 1, job.run_id) for job in week]
        heapq.heapify(events)
        while events:
            at, what, run_id = heapq.heappop(events)
            if what == 0 and self.ends.get(run_id) != at:
                continue  # it gave way meanwhile
            self._pass(at)
            if what == 1:
                self._submit(self.jobs[run_id])
            else:
                self._finish(run_id)
            self._turn(events)
            if what == 1 and int(run_id) % every == every - 1 and run_id not in self.started:
                self._foretell(run_id)

    def _pass(self, at: float) -> None:
        waiting = {owner for (owner, _, _), line in self.lines.items() if line}
        if len(waiting) == len(USERS) and at > self.now:
            held: dict[str, int] = defaultdict(int)
            for run in self.running.values():
                held[run.owner] += len(run.slots)
            self.backlog.append((self.now, at, held))
        self.now = at

    def _submit(self, job: Job) -> None:
        self.left[job.run_id] = job.seconds
        self._queue(job)

    def _queue(self, job: Job) -> None:
        needs = Needs("gpu", "gpu", slots=job.gpus)
        waiting = Waiting(
            job.run_id,
            job.owner,
            needs,
            job.priority if self.knows_priority else 0,
            self._guess(job),
            job.preemptible and self.gives_way,
        )
        line = self.lines.setdefault((job.owner, needs, waiting.priority), [])
        heapq.heappush(line, (job.run_id, waiting))

    def _guess(self, job: Job) -> float | None:
        """What the lab can know: the median of the family's runs that have ended."""
        took = self.took[job.family]
        if not self.knows_durations or not took:
            return None
        return statistics.median(took[-20:])

    def _finish(self, run_id: str) -> None:
        self._stop(run_id)
        self.finished[run_id] = self.now
        job = self.jobs[run_id]
        self.took[job.family].append(job.seconds)

    def _stop(self, run_id: str) -> None:
        run = self.running.pop(run_id)
        del self.ends[run_id]
        if self.knows_users:
            elapsed = self.now - (run.started_at - BEGIN).total_seconds()
            used = self._decayed(run.owner) + max(LEAST_CHARGE, elapsed) * len(run.slots)
            self.usage[run.owner] = (used, self.now)

    def _decayed(self, owner: str) -> float:
        used, at = self.usage.get(owner, (0.0, 0.0))
        return decayed(used, _moment(at), _moment(self.now))

    def _accounts(self) -> Mapping[str, Account]:
        if not self.knows_users:
            return {}
        live: dict[str, float] = defaultdict(float)
        for run in self.running.values():
            elapsed = self.now - (run.started_at - BEGIN).total_seconds()
            live[run.owner] += max(LEAST_CHARGE, elapsed) * len(run.slots)
        return {owner: Account(usage=self._decayed(owner) + live[owner]) for owner in USERS}

    def snapshot(self, waiting: Sequence[Waiting]) -> Snapshot:
        """Return what the planner is told."""
        return Snapshot(
            _moment(self.now),
            self.hosts,
            tuple(waiting),
            tuple(self.running.values()),
            self._accounts(),
        )

    def _heads(self) -> Iterator[Waiting]:
        best: dict[tuple[str, Needs], Waiting] = {}
        for (owner, needs, priority), line in self.lines.items():
            if line and ((owner, needs) not in best or priority > best[owner, needs].priority):
                best[owner, needs] = line[0][1]
        return iter(best.values())

    def _turn(self, events: list[tuple[float, int, str]]) -> None:
        """Carry plans out until they ask for nothing more."""
        while True:
            decided = plan(self.snapshot(list(self._heads())))
            self._keep_turns({reservation.run_id for reservation in decided.reservations})
            self._carry_out(decided, events)
            if not decided.starts and not decided.yields:
                return

    def _keep_turns(self, reserved: Collection[str]) -> None:
        for line in self.lines.values():
            if line and line[0][0] in reserved:
                line[0] = (line[0][0], replace(line[0][1], reserved=True))

    def _carry_out(self, decided: Plan, events: list[tuple[float, int, str]]) -> None:
        for start in decided.starts:
            job = self.jobs[start.run_id]
            needs = Needs("gpu", "gpu", slots=job.gpus)
            priority = job.priority if self.knows_priority else 0
            _, waiting = heapq.heappop(self.lines[job.owner, needs, priority])
            assert waiting.run_id == start.run_id
            self.running[start.run_id] = Running(
                start.run_id,
                job.owner,
                start.slots,
                _moment(self.now),
                waiting.priority,
                seconds=waiting.seconds,
                preemptible=waiting.preemptible,
                backfilled=start.backfilled,
            )
            self.started.setdefault(start.run_id, self.now)
            self.ends[start.run_id] = end = self.now + self.left[start.run_id]
            heapq.heappush(events, (end, 0, start.run_id))
        for run_id in decided.yields:
            self._give_way(run_id)

    def _give_way(self, run_id: str) -> None:
        run = self.running[run_id]
        worked = self.now - (run.started_at - BEGIN).total_seconds()
        self._stop(run_id)
        self.left[run_id] = max(0.0, self.left[run_id] - worked) + RESTART
        self.yields += 1
        self._queue(self.jobs[run_id])

    def _foretell(self, run_id: str) -> None:
        every = [waiting for line in self.lines.values() for _, waiting in line]
        known = [w.seconds for w in every if w.seconds is not None]
        unknown = statistics.median(known) if known else 3600.0
        found = forecast(self.snapshot(every), run_id, unknown=unknown)
        self.told[run_id] = None if found is None else (found - BEGIN).total_seconds() - self.now


def _moment(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


# -- figures ----------------------------------------------------------------------------------


def waits(lab: Lab) -> list[float]:
    """Return how long every job waited for its first start, in seconds."""
    return [lab.started[job.run_id] - job.submitted for job in lab.jobs.values()]


def jain(values: Sequence[float]) -> float:
    """Return Jain's index: 1 if all are equal, 1/n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(v * v for v in values))


def fairness(lab: Lab) -> float:
    """Return Jain's index of the GPU-seconds each user got while every user had runs waiting."""
    got: dict[str, float] = dict.fromkeys(USERS, 0.0)
    for begin, end, held in lab.backlog:
        for owner, slots in held.items():
            got[owner] += slots * (end - begin)
    return jain(list(got.values()))


def utilisation(lab: Lab) -> float:
    """Return the least time any schedule needs for these jobs over the time it took.

    The bound: after any moment, the work submitted from then on cannot be done faster than by all
    GPUs at once; and no job ends before its own length has passed.
    """
    week = sorted(lab.jobs.values(), key=lambda job: job.submitted)
    bound = max(job.submitted + job.seconds for job in week)
    after = 0.0
    for job in reversed(week):
        after += job.seconds * job.gpus
        bound = max(bound, job.submitted + after / (HOSTS * GPUS))
    return bound / max(lab.finished.values())


def lateness(lab: Lab) -> Mapping[str, float]:
    """Return by how many seconds each job started later than an equal share alone had let it.

    That share, as many GPUs as there are for each user, does its owner's jobs one after the other
    in the order of submission. Whoever starves falls behind it further and further.
    """
    rate = HOSTS * GPUS / len(USERS)
    free = dict.fromkeys(USERS, 0.0)
    late = {}
    for job in sorted(lab.jobs.values(), key=lambda job: job.submitted):
        due = max(job.submitted, free[job.owner])
        free[job.owner] = due + job.seconds * job.gpus / rate
        late[job.run_id] = lab.started[job.run_id] - due
    return late


def latest(lab: Lab) -> Mapping[int, float]:
    """Return the greatest lateness of jobs by their GPUs."""
    late = lateness(lab)
    return {
        gpus: max(late[job.run_id] for job in lab.jobs.values() if job.gpus == gpus)
        for gpus in SIZES
    }


def errors(lab: Lab) -> list[float]:
    """Return the relative errors of forecast waits, of runs that waited ten minutes or more."""
    found = []
    for run_id, told in lab.told.items():
        waited = lab.started[run_id] - lab.jobs[run_id].submitted
        if told is not None and waited >= 600:
            found.append(abs(told - waited) / waited)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


POLICIES: Mapping[str, Callable[[], Lab]] = {
    "first come, first served": lambda: Lab(
        knows_priority=False, knows_users=False, knows_durations=False, gives_way=False
    ),
    "plain priority": lambda: Lab(knows_users=False, knows_durations=False, gives_way=False),
    "the lab's": lambda: Lab(forecasts=300),
}


def simulate(count: int, seed: int) -> Mapping[str, Lab]:
    """Replay one week under every policy."""
    week = jobs(count, seed)
    labs = {}
    for name, make in POLICIES.items():
        say(f"simulating {count:,} jobs, policy: {name}")
        labs[name] = make()
        labs[name].run([replace(job) for job in week])
    return labs


def table(labs: Mapping[str, Lab]) -> str:
    """Return the figures as text."""
    heads = ("policy", "wait p50", "p95", "max", "urgent p95", "Jain", "of the bound", "gave way")
    lines = ["{:26s}{:>10s}{:>10s}{:>10s}{:>12s}{:>8s}{:>14s}{:>10s}".format(*heads)]
    for name, lab in labs.items():
        all_waits = waits(lab)
        urgent = [lab.started[j.run_id] - j.submitted for j in lab.jobs.values() if j.priority > 0]
        lines.append(
            f"{name:26s}{_hours(statistics.median(all_waits)):>10s}"
            f"{_hours(quantile(all_waits, 0.95)):>10s}{_hours(max(all_waits)):>10s}"
            f"{_hours(quantile(urgent, 0.95)):>12s}{fairness(lab):>8.3f}"
            f"{utilisation(lab):>14.3f}{lab.yields:>10d}"
        )
    return "\n".join(lines)


def behind(labs: Mapping[str, Lab]) -> str:
    """Return by how much jobs started later than an equal share had let them, as text."""
    lines = [f"{'started behind an equal share':32s}{'p95':>10s}" + "".join(
        f"{f'latest of {gpus}':>14s}" for gpus in SIZES
    )]  # fmt: skip
    for name, lab in labs.items():
        by_size = "".join(f"{_hours(seconds):>14s}" for seconds in latest(lab).values())
        slow = quantile(list(lateness(lab).values()), 0.95)
        lines.append(f"{name:32s}{_hours(slow):>10s}{by_size}")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.week", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    labs = simulate(chosen.jobs, chosen.seed)
    sys.stdout.write(
        f"{chosen.jobs:,} jobs of {len(USERS)} users who ask for as much each, "
        f"{HOSTS} hosts of {GPUS} GPUs, load {LOAD}\n{table(labs)}\n\n{behind(labs)}\n\n"
    )
    off = errors(labs["the lab's"])
    sys.stdout.write(
        f"forecast of the start: median relative error {statistics.median(off):.2f}, "
        f"p90 {quantile(off, 0.9):.2f}, of {len(off)} runs that waited ten minutes or more\n"
    )


if __name__ == "__main__":
    main()
