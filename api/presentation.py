"""How figures are written for people on the dashboard's pages."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from domain import percent as shares
from domain.pictures import alt_text, figure_of
from domain.presets import RUN_SPEC
from domain.results import Evaluation
from domain.spec import EvaluateSpec
from store.rows import RunRow, SlotView, WorkerRow

DASH = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86_400
WORKER_SILENT_SECONDS = 60


def percent(value: float | str | None) -> str:
    """Write a share of one: ``93.4 %``, 100 for nothing less; a dash for what is no number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    return f"{shares.percent(value)} %"


def result_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a stored evaluation has to show: its attacks and, where one counts, the union."""
    return [row.model_dump(mode="json") for row in Evaluation.model_validate(record).rows]


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
    return f"{what} on {run.spec['data']['dataset']}"


def picture_in_words(run: RunRow) -> str:
    """Say what a run's picture shows: its own columns, not those of another method."""
    try:
        spec = RUN_SPEC.validate_python(run.spec)
    except ValidationError:  # of an earlier version of the contract
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
    progress = run.progress or {}
    done, total = progress.get("done", 0), progress.get("total", 0)
    rate = progress.get("images_per_second")
    left = total - done
    if isinstance(rate, int | float) and rate > 0:
        batch = run.spec.get("training", {}).get("batch_size", 1)
        images = batch if progress.get("unit") == "step" else 1
        return float(left * images / rate)
    if run.started_at is None or done <= 0 or run.attempt > 1:
        return None
    return float((now - run.started_at).total_seconds() * left / done)


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
    "result_rows": result_rows,
    "duration": duration,
    "size": size,
    "title_of": title,
    "fraction": fraction,
    "iso": iso,
    "clock": clock,
    "pretty": pretty,
    "use": use,
}
