"""Schedules: functions of progress in [0, 1]."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(value: float) -> Schedule:
    """Return the same value throughout."""
    return lambda _progress: value


def cosine(peak: float) -> Schedule:
    """Return peak (1 + cos(pi t)) / 2: from ``peak`` at 0 to 0 at 1."""
    return lambda progress: peak * (1 + math.cos(math.pi * progress)) / 2
