"""How figures are written for people on the dashboard's pages."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from domain import percent as shares
from domain import series, stored_spec
from domain.errors import SpecInvalid
from domain.forecast import phase_left
from domain.pictures import alt_text, figure_of
from domain.results import AttackResult, Evaluation, Interval, ThreatModel, wilson_interval
from domain.run_state import RunState
from domain.spec import EvaluateSpec
from domain.units import format_radius
from store.rows import EvaluationRow, RunRow, SlotView, Wait, WorkerRow

DASH = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86_400
WORKER_SILENT_SECONDS = 60
JUDGING = ("evaluate", "draw")
"""Phases that come after others: the time since the start says nothing of their pace."""
UNITS: Mapping[str, str] = {"step": "steps", "image": "images", "pass": "passes"}
NORMS: Mapping[str, str] = {"linf": "L\N{INFINITY}", "l2": "L2", "l1": "L1"}
WORST = "worst-case"
HEADLINES: Mapping[str, tuple[str, str, str]] = {
    "clean_accuracy": ("clean", "Clean accuracy", "clean"),
    "pgd20_robust_accuracy": ("PGD-20", "Robust accuracy under PGD-20", "pgd-20"),
    "worst_case_robust_accuracy": ("worst", "Worst case over all attacks", WORST),
}
"""Of a summary's accuracies: short and long names, and the attack in an evaluation's results."""
CHARTS = [
    {
        "name": chart.name,
        "title": chart.title,
        "factor": chart.unit.factor,
        "series": [name for name, measure in series.SERIES.items() if measure.chart == chart],
    }
    for chart in series.CHARTS
]
"""What the script of a run's page draws."""


@dataclass(frozen=True)
class Tile:
    """A headline figure, and what must be known to read it."""

    label: str
    value: str
    note: str = ""


def percent(value: float | str | None) -> str:
    """Write a share of one: ``93.4 %``, 100 for nothing less; a dash for what is no number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    return f"{shares.percent(value)} %"


def duration(seconds: float | None) -> str:
    """Write seconds in the two largest units that matter: ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR:02d} h"


def size(count: int) -> str:
    """Write bytes: ``43.1 MB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def title(run: RunRow) -> str:
    """Return what a run is called: its name, or what it does to which data."""
    if run.name:
        return run.name
    method = run.spec.get("method") or {}
    what = run.preset or method.get("kind") or run.kind
    data = run.spec["data"]
    return f"{what} on {data.get('folder') or data['dataset']}"


def state_word(run: RunRow, wait: Wait | None) -> str:
    """Return a run's state; of one that waits, for what; of one that is to pause, that it does."""
    if wait is not None:
        return wait.state
    return "pausing" if run.held and run.state is RunState.RUNNING else run.state.value


def interval(bounds: Interval) -> str:
    """Write an interval of a share in percent: from, a dash, to."""
    return f"{shares.percent(bounds.low)}{DASH}{shares.percent(bounds.high)} %"


def accuracy(result: AttackResult) -> str:
    """Write an accuracy; ``≤`` before what only bounds robust accuracy from above."""
    return f"{'≤ ' if result.is_bound else ''}{percent(result.accuracy)}"


def threat(model: ThreatModel | None) -> str:
    """Write what the attacker may do: norm and radius."""
    if model is None:
        return DASH
    return f"{NORMS.get(model.norm, model.norm)} {format_radius(model.epsilon)}"


def evaluation(row: EvaluationRow) -> Evaluation:
    """Read a stored evaluation."""
    return Evaluation.model_validate(row.record)


def headlines(run: RunRow) -> list[Tile]:
    """Return a run's accuracies under short names, for a row of a table."""
    summary = run.summary or {}
    return [
        Tile(short, percent(summary[key]), f"{name}{_uncertainty(summary, key)}")
        for key, (short, name, _) in HEADLINES.items()
        if is_number(summary.get(key))
    ]


def _uncertainty(summary: Mapping[str, Any], key: str) -> str:
    """Write the interval of a summary's accuracy, where the number of images is known."""
    value, n = summary[key], summary.get("n")
    if not isinstance(n, int) or n < 1 or not 0 <= value <= 1:
        return ""
    return f"; 95 % interval {interval(wilson_interval(round(value * n), n))}, {n} images"


def tiles(run: RunRow, rows: Sequence[EvaluationRow]) -> list[Tile]:
    """Return a run's headline figures; only those there are."""
    summary = run.summary or {}
    judged = evaluation(rows[0]) if rows else None
    known = {key: about for key, about in HEADLINES.items() if is_number(summary.get(key))}
    if judged is not None and not judged.counted:  # clean accuracy by another name
        known.pop("worst_case_robust_accuracy", None)
    shown = [_tile(name, label, summary, key, judged) for key, (_, name, label) in known.items()]
    if is_number(summary.get("images")):
        shown.append(Tile("Images drawn", f"{summary['images']}"))
    if is_number(summary.get("seconds")):
        note = "in its last attempt" if run.attempt > 1 else ""
        shown.append(Tile("Took", duration(summary["seconds"]), note))
    return shown


def _tile(
    name: str, label: str, summary: Mapping[str, Any], key: str, judged: Evaluation | None
) -> Tile:
    result = None if judged is None else _under(judged, label)
    if result is None:
        return Tile(name, percent(summary[key]), _uncertainty(summary, key).removeprefix("; "))
    note = f"95 % interval {interval(result.interval)}, {result.n} images"
    against = f", {threat(result.threat)}" if result.threat else ""
    return Tile(name, accuracy(result), note + against)


def _under(judged: Evaluation, label: str) -> AttackResult | None:
    return next((result for result in judged.rows if result.label == label), None)


def is_number(value: object) -> bool:
    """Tell whether a value of a summary is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def picture_in_words(run: RunRow) -> str:
    """Say what a run's picture shows: its own columns, not those of another method."""
    try:
        spec = stored_spec.read(run.spec)
    except SpecInvalid:  # of an earlier version
        return f"Picture of {title(run)}"
    if isinstance(spec, EvaluateSpec):  # draws nothing
        return f"Picture of {title(run)}"
    return alt_text(figure_of(spec))


def fraction(run: RunRow) -> float | None:
    """Return how much of the present phase is done, in [0, 1]; None if that is unknown."""
    progress = run.progress or {}
    total = progress.get("total") or 0
    return min(1.0, progress.get("done", 0) / total) if total > 0 else None


def seconds_left(run: RunRow, now: datetime) -> float | None:
    """Estimate when the present phase ends: by throughput, else by the time it took so far."""
    if run.progress is None:
        return None
    is_later = run.progress.get("phase") in JUDGING and run.kind == "train"
    begun = None if run.attempt > 1 or is_later else run.started_at
    return phase_left(
        run.progress,
        batch_size=run.spec.get("training", {}).get("batch_size", 1),
        elapsed=None if begun is None else (now - begun).total_seconds(),
    )


def is_silent(worker: WorkerRow, now: datetime) -> bool:
    """Tell whether a worker has not been heard of for a minute."""
    return (now - worker.seen_at).total_seconds() > WORKER_SILENT_SECONDS


def iso(moment: datetime) -> str:
    """Write a time for machines."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime) -> str:
    """Write a time for people, UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def pretty(value: Mapping[str, Any] | None) -> str:
    """Write JSON with indentation."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def many(count: int, unit: str) -> str:
    """Write a count of a progress' units: ``1 step``, ``3 passes``."""
    return f"{count} {unit if count == 1 else UNITS.get(unit, unit)}"


def marked(text: str) -> Markup:
    """Set what stands between backticks as code."""
    pieces = re.split(r"`([^`]*)`", text)
    tags = (
        Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces)
    )
    return Markup("").join(tags)


def use(slot: SlotView) -> str:
    """Say what occupies a slot, or why nothing may."""
    if slot.run_id:
        return f"run {slot.run_id}"
    if slot.unconfirmed:
        return "being cleared"
    if slot.quarantine:
        return f"in quarantine, {slot.quarantine}"
    return f"used by {slot.foreign_use}" if slot.foreign_use else "free"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "picture_in_words": picture_in_words,
    "duration": duration,
    "size": size,
    "title_of": title,
    "fraction": fraction,
    "iso": iso,
    "clock": clock,
    "pretty": pretty,
    "use": use,
    "state_word": state_word,
    "interval": interval,
    "accuracy": accuracy,
    "threat": threat,
    "evaluation": evaluation,
    "headlines": headlines,
    "many": many,
    "marked": marked,
}
