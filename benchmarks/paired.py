"""Times that can be compared on a machine that is never quiet."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.progress import say

Times = Mapping[str, list[float]]
"""Seconds of every variant, one for each round."""


@dataclass(frozen=True)
class Ratio:
    """Median over rounds of one variant's time to another's in the same round, and the range."""

    median: float
    low: float
    high: float


def measure(variants: Mapping[str, Callable[[], None]], *, rounds: int) -> Times:
    """Run every variant once a round, so that a slow moment hits all; one round is not counted.

    The order turns from round to round, so that nothing always runs after the same neighbour.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for round_ in range(rounds + 1):
        say(f"round {round_} of {rounds}{'' if round_ else ', not counted'}: {len(names)} variants")
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            variants[name]()
            seconds = time.perf_counter() - start
            say(f"  {name}: {seconds:.2f} s")
            if round_:
                times[name].append(seconds)
    return times


def ratio(times: Times, name: str, to: str) -> Ratio:
    """Return how long ``name`` takes in units of ``to``."""
    each = [a / b for a, b in zip(times[name], times[to], strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def median(times: Times, name: str) -> float:
    """Return a variant's median seconds."""
    return statistics.median(times[name])
