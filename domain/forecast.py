"""How long runs take and waits last: each with where the figure comes from, and an 80 % range.

A duration is, in this order: what a running run reports of itself; what its owner declared; what
runs that differ at most in their steps and sizes took, by :func:`domain.family.works`; what the
lab's runs took. A wait is laid out from those durations by :func:`domain.schedule.forecast`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DurationSource = Literal["declared", "reported", "same-spec", "history", "none"]

WORDS: Mapping[DurationSource, str] = {
    "declared": "what its owner declared",
    "reported": "what the running runs report",
    "same-spec": "runs like it",
    "history": "all runs that have ended here",
    "none": "nothing",
}
UNKNOWN_SECONDS = 3600.0
"""How long a run is laid out for when nothing at all is known."""


@dataclass(frozen=True)
class Estimate:
    """How long a run takes in all, and what that rests on."""

    seconds: float
    source: DurationSource


@dataclass(frozen=True)
class Ended:
    """What the runs of one family took on average."""

    family: str
    seconds: float
    runs: int


def comparable_of(name: str) -> str:
    """Return a family's name without its work: what runs of other steps and sizes share."""
    return name.rpartition("@")[0] or name


def work_of(name: str) -> float:
    """Return the work that a family's name ends in; 0 for a name of before it did."""
    return float(name.rpartition("@")[2]) if "@" in name else 0.0


class Durations:
    """What ended runs say of others."""

    def __init__(self, ended: Iterable[Ended]) -> None:
        self._seconds: dict[str, float] = {}
        self._pace: dict[str, tuple[float, float]] = {}
        self._all, self.runs = 0.0, 0
        for row in ended:
            self._seconds[row.family] = row.seconds
            self._learn(row)

    def _learn(self, row: Ended) -> None:
        took, work = self._pace.get(comparable_of(row.family), (0.0, 0.0))
        done = work_of(row.family)
        if done:
            self._pace[comparable_of(row.family)] = (
                took + row.seconds * row.runs,
                work + done * row.runs,
            )
        self._all += row.seconds * row.runs
        self.runs += row.runs

    def of(self, family: str) -> Estimate:
        """Return how long a run of a family takes: as its likes did, or else as all did."""
        if family in self._seconds:
            return Estimate(self._seconds[family], "same-spec")
        took, work = self._pace.get(comparable_of(family), (0.0, 0.0))
        if work and (size := work_of(family)):
            return Estimate(took / work * size, "same-spec")
        if self.runs:
            return Estimate(self._all / self.runs, "history")
        return Estimate(UNKNOWN_SECONDS, "none")


# -- what a running run reports ---------------------------------------------------------------


def phase_left(
    progress: Mapping[str, Any], *, batch_size: int, elapsed: float | None
) -> float | None:
    """Return the seconds to the end of the present phase: by throughput, else by the time so far.

    elapsed: seconds since the start of the only attempt; None if there were others.
    """
    done, total = progress.get("done", 0), progress.get("total", 0)
    rate = progress.get("images_per_second")
    if not total:
        return None
    left = total - done
    if isinstance(rate, int | float) and rate > 0:
        images = batch_size if progress.get("unit") == "step" else 1
        return float(left * images / rate)
    if elapsed is None or done <= 0:
        return None
    return float(elapsed * left / done)


def reported_left(
    progress: Mapping[str, Any], *, batch_size: int, elapsed: float | None, after: float
) -> float | None:
    """Return the seconds to the end of a run that trains; None where its progress cannot tell.

    Which attacks are still to come is not in the progress of an evaluation, and which epochs are
    not in that of a validation: only training says how far the whole run is.

    after: the work that follows training, over that of training.
    """
    done, total = progress.get("done", 0), progress.get("total", 0)
    if progress.get("phase") != "train" or not 0 < done <= total:
        return None
    left = phase_left(progress, batch_size=batch_size, elapsed=elapsed)
    if left is None or (done == total and after):
        return None
    if done == total:
        return 0.0
    return left + after * left / float(1 - done / total)


# -- waits ------------------------------------------------------------------------------------

RATIOS: Mapping[DurationSource, tuple[float, float, float]] = {
    "declared": (0.62, 1.36, 3.55),
    "reported": (0.21, 1.04, 7.86),
    "same-spec": (0.62, 1.36, 3.55),
    "history": (3.0, 5.3, 12.31),
}
"""Actual over laid-out waits: their quantiles at 10, 50 and 90 %.

Fitted by ``python -m benchmarks.forecast --fit`` on simulated weeks of a lab that is asked for more
than it has: later submissions of others, which no plan knows, are most of it. What owners declare
was not simulated; it is taken to be as good as what runs like it took.
"""


@dataclass(frozen=True)
class WaitForecast:
    """Seconds until a run starts: the median and the range that holds eight waits in ten."""

    seconds: float
    low: float
    high: float
    source: DurationSource | None
    """None for a run that starts at once."""


def ranged(laid_out: float, sources: Sequence[DurationSource]) -> WaitForecast | None:
    """Return the forecast of a wait that was laid out as so many seconds; None if on no ground.

    sources: where the durations of the runs before it come from.
    """
    source = main_source(sources)
    if source == "none":
        return None
    low, middle, high = RATIOS[source]
    return WaitForecast(laid_out * middle, laid_out * low, laid_out * high, source)


def main_source(sources: Sequence[DurationSource]) -> DurationSource:
    """Return what most of the durations rest on; of equals, the less certain."""
    counts = Counter(sources)
    order = list(WORDS)
    return max(counts, key=lambda source: (counts[source], order.index(source)), default="none")


def log_ratio(actual: float, laid_out: float) -> float:
    """Return how far off a wait was, 0 if it was right; what is under a second counts as one."""
    return math.log(max(1.0, actual) / max(1.0, laid_out))
