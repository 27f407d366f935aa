"""A series in one line of text."""

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-~=+*#"
GAP = "·"


def sparkline(values: Sequence[float], *, width: int = 24, bars: str = BARS) -> str:
    """Draw ``values`` in at most ``width`` characters, lowest to highest bar.

    A column shows the mean of its points; one without a finite point shows a gap mark.
    """
    columns = [_mean(chunk) for chunk in _chunks(values, width)]
    finite = [c for c in columns if c is not None]
    if not finite:
        return _gap(bars) * len(columns)
    low, high = min(finite), max(finite)
    return "".join(_gap(bars) if c is None else bars[_level(c, low, high, bars)] for c in columns)


def _gap(bars: str) -> str:
    return GAP if bars == BARS else "?"


def _chunks(values: Sequence[float], width: int) -> list[Sequence[float]]:
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    return [values[a:b] for a, b in pairwise(edges)]


def _mean(chunk: Sequence[float]) -> float | None:
    finite = [v for v in chunk if math.isfinite(v)]
    # Halved first: the sum of two large floats would overflow.
    return sum(v / len(finite) for v in finite) if finite else None


def _level(value: float, low: float, high: float, bars: str) -> int:
    if high <= low:
        return (len(bars) - 1) // 2
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(len(bars) - 1, int(share * len(bars)))
