"""Numbers for people: percentages, intervals, durations, sizes, counts."""

import math
from datetime import datetime

from domain import percent as shares
from domain.results import AttackResult, Interval


def percent(share: float) -> str:
    """``0.8722`` is ``87.2 %``; only 1 is 100 %."""
    return f"{shares.percent(share)} %" if math.isfinite(share) else "n/a"


def interval(bounds: Interval) -> str:
    """Return a confidence interval in percent."""
    return f"{shares.percent(bounds.low)} - {shares.percent(bounds.high)} %"


def accuracy(result: AttackResult) -> str:
    """Return an accuracy with its interval, marked where it is only a bound."""
    return f"{attacked(result)} [{interval(result.interval)}]"


def attacked(result: AttackResult) -> str:
    """Return an accuracy; ``≤`` before what only bounds robust accuracy from above."""
    return f"{'≤ ' if result.is_bound else ''}{percent(result.accuracy)}"


def number(value: float) -> str:
    """Return four significant digits; NaN and infinities by their names."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """``75`` is ``1 min 15 s``; tenths below ten seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Return bytes in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def moment(when: datetime | None) -> str:
    """Return a time in this machine's zone, to the second."""
    return "-" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(when: datetime | None, now: datetime) -> str:
    """Say how long ago."""
    return "-" if when is None else f"{duration(max(0.0, (now - when).total_seconds()))} ago"
