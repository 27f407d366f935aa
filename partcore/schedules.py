"""Schedules: functions of progress in [0, 1]."""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]


def constant(value: float) -> Schedule:
    """Return the same value throughout."""
    return lambda _progress: value


def cosine(peak: float) -> Schedule:
    """Return peak (1 + cos(pi t)) / 2: from ``peak`` at 0 to 0 at 1."""
    return lambda progress: peak * (1 + math.cos(math.pi * progress)) / 2


def multistep(peak: float, milestones: Sequence[float]) -> Schedule:
    """Return ``peak``, a tenth of it after each milestone (progress in [0, 1]) that has passed."""
    return lambda progress: peak * 0.1 ** sum(progress >= place for place in milestones)
