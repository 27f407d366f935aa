"""One sequence: runs are submitted, faults come over the lab, all is mended, all must end well."""

import heapq
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import sqlalchemy as sa

from partlab.errors import ClientError
from store.engine import reading
from store.tables import runs
from tests.chaos.faults import FAULTS, Undo
from tests.chaos.invariants import violations
from tests.chaos.lab import LEASE, Lab
from tests.chaos.watch import History, Watch, history, look

BEHAVIOURS = ("steady", "steady", "deaf", "forks")
MOST_SECONDS = 120.0
"""By when all runs of a sequence have ended, once nothing is broken any more."""


@dataclass
class Outcome:
    """What came of a sequence."""

    seed: int
    runs: int
    faults: tuple[str, ...]
    histories: tuple[History, ...]
    violated: dict[str, list[str]]
    seconds: float

    @property
    def title(self) -> str:
        """One line about it."""
        attempts = sum(h.attempt for h in self.histories)
        verdict = "ok" if not self.violated else "VIOLATED: " + ", ".join(self.violated)
        return (
            f"{self.seed:5d}  {self.runs} runs  {attempts:2d} attempts  {self.seconds:5.1f} s  "
            f"{verdict:8}  {', '.join(self.faults)}"
        )


@dataclass(order=True)
class Due:
    """Something to be done at a moment of the sequence."""

    at: float
    number: int
    do: Callable[[], None] = field(compare=False)


class Script:
    """Does things at their moments, in one thread."""

    def __init__(self) -> None:
        self._due: list[Due] = []
        self._count = 0
        self._start = time.monotonic()

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something that many seconds after the start."""
        self._count += 1
        heapq.heappush(self._due, Due(seconds, self._count, do))

    def play(self) -> None:
        """Do all of it, also what is added meanwhile; raise at the end what went wrong first.

        Were the rest left undone, what a fault froze would stay so for all sequences that follow.
        """
        errors: list[Exception] = []
        while self._due:
            due = heapq.heappop(self._due)
            time.sleep(max(0.0, due.at - (time.monotonic() - self._start)))
            try:
                due.do()
            except Exception as error:  # noqa: BLE001 - of any fault or its undoing
                errors.append(error)
        if errors:
            raise errors[0]


def sequence(
    lab: Lab, seed: int, *, names: Sequence[str] = (), patience: float = MOST_SECONDS
) -> Outcome:
    """Play one random sequence and judge it.

    names: the faults (default: three to five at random). patience: seconds for all to end.
    """
    rng, started = Random(seed), time.monotonic()
    watch = Watch(lab)
    watch.start()
    chosen = tuple(names) or tuple(rng.sample(sorted(FAULTS), k=rng.randint(3, 5)))
    submissions = [_Submission(lab, seed, i, rng) for i in range(rng.randint(3, 5))]
    script = Script()
    for i, submission in enumerate(submissions):
        script.at(0.0 if i < 3 else rng.uniform(0.5, 3.0), submission.start)
    moment = 1.0
    for name in chosen:
        moment += rng.uniform(0.1, 1.0)
        short = rng.random() < 0.4
        lasting = rng.uniform(0.1, 0.8) if short else LEASE * rng.uniform(1.1, 1.6)
        script.at(moment, _Fault(lab, script, name, rng, until=moment + lasting))
    script.play()
    broken = _mend(lab)
    lab.await_errands()
    ids = [submission.run_id() for submission in submissions]
    watch.calm.set()
    late = _await_ends(lab, ids, patience)
    samples = [*watch.stop(), look(lab, calm=True)]
    histories = tuple(history(lab, run_id) for run_id in ids)
    violated = violations(samples, histories)
    if late:
        violated["everything ends"] = late
    if broken:
        violated["the lab works again"] = broken
    if doubled := _doubled(lab, submissions):
        violated["submitted once"] = doubled
    return Outcome(seed, len(ids), chosen, histories, violated, time.monotonic() - started)


class _Fault:
    """Strikes, and puts its undoing on the script."""

    def __init__(self, lab: Lab, script: Script, name: str, rng: Random, *, until: float) -> None:
        self._lab, self._script, self._name = lab, script, name
        self._rng, self._until = Random(rng.random()), until

    def __call__(self) -> None:
        undo: Undo = FAULTS[self._name](self._lab, self._rng)
        self._script.at(self._until, undo)


class _Submission(threading.Thread):
    """Submits one run through the API, again and again until it has an answer."""

    def __init__(self, lab: Lab, seed: int, number: int, rng: Random) -> None:
        super().__init__(daemon=True)
        self._lab = lab
        self.seed = 1000 * seed + number
        self.name_of_run = f"{rng.choice(BEHAVIOURS)}-{rng.randint(30, 70)}"
        self._run_id = ""

    def run(self) -> None:
        spec = {
            "preset": "pgd-at",
            "name": self.name_of_run,
            "seed": self.seed,
            "data": {"dataset": "digits"},
        }
        end = time.monotonic() + MOST_SECONDS
        while not self._run_id and time.monotonic() < end:
            try:
                with self._lab.client() as client:
                    answer = client.submit(spec, idempotency_key=f"chaos-{self.seed}")
                    self._run_id = answer.id
            except ClientError:
                time.sleep(0.2)

    def run_id(self) -> str:
        """Wait for the answer."""
        self.join()
        assert self._run_id, "the lab never took a run"
        return self._run_id


def _mend(lab: Lab) -> list[str]:
    """Start what does not run; say so if the lab does not work then."""
    try:
        lab.start_all()
    except AssertionError:
        return ["with everything started, the lab did not become ready"]
    return []


def _await_ends(lab: Lab, ids: Sequence[str], patience: float) -> list[str]:
    """Wait until all runs have ended and their processes are gone; say what has not."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with reading(lab.engine) as connection:
            query = sa.select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(ids))
            going = [row.id for row in connection.execute(query) if row.finished_at is None]
        if not going and not lab.left():
            return []
        time.sleep(0.1)
    return [f"run {run_id} has not ended" for run_id in going]


def _doubled(lab: Lab, submissions: Sequence[_Submission]) -> list[str]:
    """Say which run is in the lab twice."""
    seeds = [submission.seed for submission in submissions]
    with reading(lab.engine) as connection:
        query = sa.select(runs.c.seed).where(runs.c.seed.in_(seeds))
        found = list(connection.scalars(query))
    return [f"seed {seed} was submitted twice" for seed in seeds if found.count(seed) != 1]


def shown(work: Callable[[], Outcome]) -> Outcome | None:
    """Play a sequence and print its line; None if the driver itself failed."""
    try:
        outcome = work()
    except Exception:  # noqa: BLE001 - the next sequence is worth playing
        traceback.print_exc()
        return None
    sys.stdout.write(outcome.title + "\n")
    for name, sentences in outcome.violated.items():
        for sentence in sentences[:5]:
            sys.stdout.write(f"       {name}: {sentence}\n")
    sys.stdout.flush()
    return outcome
