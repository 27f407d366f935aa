"""Whether forecast waits hold what they promise: ``python -m benchmarks.forecast``.

Replays simulated weeks (``benchmarks.week``) and forecasts the start of every job that does not
start at once, from what a lab would know at that moment: running jobs report when they will end, to
a tenth or so; of some families none has ended yet, and of some not even one of another size. Prints
how many waits fell into their 80 % range. Its quantiles were fitted on other weeks (``--fit``).
"""

import argparse
import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.week import BEGIN, Job, Lab, jobs, quantile
from domain.forecast import (
    Durations,
    DurationSource,
    Ended,
    Estimate,
    WaitForecast,
    log_ratio,
    ranged,
)
from domain.schedule import forecast, in_turn

FIT_SEEDS, SEEDS = range(101, 109), range(1, 20)
JOBS = 600
REPORT_NOISE = 0.1
"""Standard deviation of the logarithm of what a running job reports to be left."""
WORK_NOISE = 0.15
"""Of what a family's jobs take, over their work."""


@dataclass(frozen=True)
class Wait:
    """A forecast, and what came of it."""

    laid_out: float
    forecast: WaitForecast
    actual: float

    @property
    def is_covered(self) -> bool:
        """Whether it fell into the range."""
        return self.forecast.low <= self.actual <= self.forecast.high

    @property
    def error(self) -> float:
        """Relative, of the median."""
        return abs(self.forecast.seconds - self.actual) / self.actual


@dataclass
class ForecastLab(Lab):
    """A lab that forecasts every wait."""

    seed: int = 0
    laid_out: dict[str, tuple[float, tuple[DurationSource, ...]]] = field(default_factory=dict)

    def run(self, week: Sequence[Job]) -> None:
        """Replay the jobs to the end of the last."""
        by_family: dict[int, list[float]] = defaultdict(list)
        for job in week:
            by_family[job.family].append(job.seconds)
        chance = random.Random(self.seed)
        self.names = {}
        for family, seconds in sorted(by_family.items()):
            work = statistics.median(seconds) * math.exp(chance.gauss(0, WORK_NOISE))
            self.names[family] = f"method-{family // 4}@{work}"
        self.forecasts = len(week)
        super().run(week)

    def _foretell(self, run_id: str) -> None:
        durations = Durations(
            Ended(self.names[family], statistics.fmean(took[-20:]), len(took))
            for family, took in self.took.items()
            if took
        )
        estimates = {family: durations.of(name) for family, name in self.names.items()}
        waiting = [
            replace(run, seconds=self._estimate(run.run_id, estimates).seconds)
            for line in self.lines.values()
            for _, run in line
        ]
        seen = self.snapshot(waiting)
        running = tuple(replace(run, seconds=self._reported(run.run_id)) for run in seen.running)
        seen = replace(seen, running=running)
        at = forecast(seen, run_id, unknown=3600.0)
        assert at is not None
        sources: list[DurationSource] = ["reported"] * len(running)
        for other in in_turn(seen, unknown=3600.0):
            if other.run_id == run_id:
                break
            sources.append(self._estimate(other.run_id, estimates).source)
        self.laid_out[run_id] = ((at - BEGIN).total_seconds() - self.now, tuple(sources))

    def _estimate(self, run_id: str, estimates: Mapping[int, Estimate]) -> Estimate:
        return estimates[self.jobs[run_id].family]

    def _reported(self, run_id: str) -> float:
        begin = self.ends[run_id] - self.left[run_id]
        left = self.ends[run_id] - self.now
        noise = random.Random(f"{self.seed}/{run_id}").gauss(0, REPORT_NOISE)
        return self.now - begin + left * math.exp(noise)


def simulated(seeds: Sequence[int], count: int = JOBS) -> list[Wait]:
    """Return the forecast waits of some weeks."""
    waits = []
    for seed in seeds:
        lab = ForecastLab(seed=seed)
        lab.run(jobs(count, seed))
        for run_id, (laid_out, sources) in lab.laid_out.items():
            actual = lab.started[run_id] - lab.jobs[run_id].submitted
            forecast_wait = ranged(laid_out, sources)
            if forecast_wait is not None:
                waits.append(Wait(laid_out, forecast_wait, actual))
    return waits


def fitted(waits: Sequence[Wait]) -> Mapping[DurationSource, tuple[float, float, float]]:
    """Return the 10 %, 50 % and 90 % quantiles of actual over laid-out waits, by source."""
    by_source: dict[DurationSource, list[float]] = defaultdict(list)
    for wait in waits:
        by_source[wait.forecast.source].append(log_ratio(wait.actual, wait.laid_out))
    return {
        source: (
            math.exp(quantile(ratios, 0.1)),
            math.exp(quantile(ratios, 0.5)),
            math.exp(quantile(ratios, 0.9)),
        )
        for source, ratios in by_source.items()
    }


def coverage(waits: Sequence[Wait]) -> float:
    """Return the share of waits that fell into their range."""
    return sum(wait.is_covered for wait in waits) / len(waits)


def described(name: str, waits: Sequence[Wait]) -> str:
    """Return one line of the table."""
    long = [wait for wait in waits if wait.actual >= 600]
    before = [abs(wait.laid_out - wait.actual) / wait.actual for wait in long]
    width = statistics.median(w.forecast.high / max(1.0, w.forecast.low) for w in waits)
    return (
        f"{name:12s}{len(waits):>8,d}{coverage(waits):>10.1%}{statistics.median(before):>12.2f}"
        f"{statistics.median(wait.error for wait in long):>8.2f}{width:>10.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--fit", action="store_true", help="print the ratios for domain.forecast")
    chosen = parser.parse_args(arguments)
    waits = simulated(FIT_SEEDS if chosen.fit else SEEDS)
    if chosen.fit:
        sys.stdout.write(f"{fitted(waits)}\n")
        return
    heads = ("rests on", "waits", "in range", "laid out", "error", "width")
    by_source = [
        described(source, [wait for wait in waits if wait.forecast.source == source])
        for source in sorted({wait.forecast.source for wait in waits})
    ]
    lines = ["{:12s}{:>8s}{:>10s}{:>12s}{:>8s}{:>10s}".format(*heads), described("all", waits)]
    lines += by_source
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
