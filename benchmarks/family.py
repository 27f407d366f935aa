"""What the maps are worth: methods of the family against each other, over seeds, through the lab.

Submits one run a method and seed to the lab that PART_URL names, waits, and prints the table of
docs/results.md. Submitting again finds the same runs (an idempotency key each), so an interrupted
comparison goes on where it was.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from domain.results import Evaluation
from partlab import Client

Row = Mapping[str, Sequence[float]]
METHODS: Mapping[str, Mapping[str, Any]] = {
    "PGD-AT": {"preset": "pgd-at"},
    "PART": {"preset": "part"},
    "PART++": {"preset": "part++"},
    "PART++ uniform control": {"preset": "part++", "method": {"control": "uniform"}},
}
"""The control spends the mean radius of each image's own mask, on every pixel alike."""
BASELINE = "PGD-AT"
ATTACKS = ("clean", "pgd-20", "cw-20", "worst-case")


def spec(base: Mapping[str, Any], method: str, seed: int) -> dict[str, Any]:
    """Return one run's spec."""
    own = METHODS[method]
    merged = {**base.get("method", {}), **own.get("method", {})}
    shared = {"seed": seed, "experiment": "family", "name": method}
    return {**base, **own, "method": merged, **shared}


@dataclass(frozen=True)
class Difference:
    """Paired by seed, in points."""

    mean: float
    half_width: float
    """Of the 95 % interval, Student's t over the seeds."""
    smallest_detectable: float
    """Found with a power of 80 % by a two-sided test at 5 %, given the spread of the pairs."""


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compare two methods, seed by seed. Raises StatisticsError under two seeds."""
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    n = len(pairs)
    error = statistics.stdev(pairs) / n**0.5
    at_5, at_80 = (float(stats.t.ppf(q, n - 1)) for q in (0.975, 0.8))
    return Difference(statistics.mean(pairs), at_5 * error, (at_5 + at_80) * error)


def spread(values: Sequence[float]) -> str:
    """Write a mean with the 95 % interval of Student's t over the seeds."""
    half = (
        float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    )
    return f"{statistics.mean(values):.2f} ± {half:.2f}"


def table(rows: Mapping[str, Row], judged: Sequence[str]) -> str:
    """Return the methods' accuracies and their differences to the baseline, as Markdown.

    judged: what each evaluation was of; one sentence if all were of the same.
    """
    lines = ["| method | " + " | ".join(ATTACKS) + " |", "|---" * (len(ATTACKS) + 1) + "|"]
    for name, row in rows.items():
        cells = " | ".join(spread(row[attack]) for attack in ATTACKS)
        lines.append(f"| {name} | {cells} |")
    lines += ["", f"| minus {BASELINE} | " + " | ".join(ATTACKS) + " |", "|---" * 5 + "|"]
    for name, row in rows.items():
        if name != BASELINE:
            found = [difference(row[attack], rows[BASELINE][attack]) for attack in ATTACKS]
            cells = " | ".join(
                f"{d.mean:+.2f} ± {d.half_width:.2f} (≥ {d.smallest_detectable:.2f})" for d in found
            )
            lines.append(f"| {name} | {cells} |")
    return "\n".join([*lines, "", caption(len(rows[BASELINE]["clean"]), judged)])


def caption(seeds: int, judged: Sequence[str]) -> str:
    """Say what ± is of: never of images, always of seeds."""
    return (
        f"Mean accuracy in percent over {seeds} seeds; ± is half of the 95 % interval of that mean "
        f"over the {seeds} seeds (Student's t), not over images. Differences are paired by seed; ≥ "
        f"is the smallest that {seeds} such seeds find with a power of 80 %. "
        f"Judged: {'; '.join(dict.fromkeys(judged))}."
    )


def judged(found: Evaluation) -> str:
    """Say what an evaluation is of, in the words that must be the same for all."""
    return f"{found.n} test images, {found.worst_case.threat}, {', '.join(found.counted)}"


def accuracies(found: Evaluation) -> dict[str, float]:
    """Return an evaluation's accuracies in percent, by attack."""
    return {result.label: 100 * result.accuracy for result in found.rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family", description=__doc__)
    parser.add_argument("spec", type=Path, help="JSON with what all runs share")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args(arguments)
    base = json.loads(options.spec.read_text())
    with Client.from_environment() as lab:
        runs = {
            (method, seed): lab.submit(
                spec(base, method, seed),
                idempotency_key=f"family-{seed}-{i}",
            ).id
            for seed in options.seeds
            for i, method in enumerate(METHODS)
        }
        found = {
            key: lab.evaluations(lab.wait(run_id).id)[0].record for key, run_id in runs.items()
        }
    rows = {
        method: {
            attack: [accuracies(found[method, seed])[attack] for seed in options.seeds]
            for attack in ATTACKS
        }
        for method in METHODS
    }
    sys.stdout.write(table(rows, [judged(each) for each in found.values()]) + "\n")


if __name__ == "__main__":
    main()
