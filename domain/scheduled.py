"""Values that may change while a run trains: a constant, or a schedule of progress."""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from domain.base import SpecModel, misfit
from domain.field_errors import CONSTANT, RAMP
from domain.units import Radius

V = TypeVar("V")
Progress = Annotated[float, Field(ge=0, le=1)]


class Ramp(SpecModel, Generic[V]):
    """A value by progress: 0 at the run's first step, 1 after its last."""

    points: tuple[tuple[Progress, V], ...] = Field(min_length=1, max_length=1000)
    """(progress, value), progress rising; constant before the first and after the last."""
    shape: Literal["linear", "cosine", "step"] = "linear"
    """Between two points: `linear`, half a `cosine` wave, or a `step` at the later one."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(one[0] >= other[0] for one, other in pairwise(self.points)):
            raise misfit("points", "progress must rise from point to point")
        return self

    def at(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        before = [point for point in self.points if point[0] <= progress]
        after = [point for point in self.points if point[0] > progress]
        if not before or not after:
            _, value = (before or after)[-1 if before else 0]
            return _number(value)
        (start, low), (end, high) = before[-1], after[0]
        share = _eased(self.shape, (progress - start) / (end - start))
        return _number(low) + share * (_number(high) - _number(low))


def _eased(shape: str, share: float) -> float:
    if shape == "step":
        return 0.0
    return (1 - math.cos(math.pi * share)) / 2 if shape == "cosine" else share


def _number(value: object) -> float:
    assert isinstance(value, Fraction | int | float)
    return float(value)


def _which(value: object) -> str:
    return RAMP if isinstance(value, Mapping | Ramp) else CONSTANT


# A tag of its own for each alternative, so that an error is told of the one that was meant.
ScheduledRadius = Annotated[
    Annotated[Radius, Tag(CONSTANT)] | Annotated[Ramp[Radius], Tag(RAMP)], Discriminator(_which)
]
"""A radius such as ``"8/255"``, or a schedule of radii."""
Tau = Annotated[float, Field(gt=0, le=1000)]
ScheduledTau = Annotated[
    Annotated[Tau, Tag(CONSTANT)] | Annotated[Ramp[Tau], Tag(RAMP)], Discriminator(_which)
]
"""A steepness, or a schedule of it."""
Steps = Annotated[int, Field(ge=1, le=1000)]
ScheduledSteps = Annotated[
    Annotated[Steps, Tag(CONSTANT)] | Annotated[Ramp[Steps], Tag(RAMP)], Discriminator(_which)
]
"""A count of steps, or a schedule of it (rounded)."""
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
ScheduledWeight = Annotated[
    Annotated[Weight, Tag(CONSTANT)] | Annotated[Ramp[Weight], Tag(RAMP)], Discriminator(_which)
]
"""How much something counts, or a schedule of it."""


def at(value: Any, progress: float) -> float:  # noqa: ANN401 - any of the scheduled values
    """Return what a constant or a schedule says at a progress in [0, 1]."""
    return value.at(progress) if isinstance(value, Ramp) else _number(value)


def final(value: Any) -> Any:  # noqa: ANN401
    """Return the value at the end of a run, exact."""
    return value.points[-1][1] if isinstance(value, Ramp) else value


def moments(*values: Any) -> list[float]:  # noqa: ANN401
    """Return the progresses that decide how schedules compare: their points, and between them."""
    ramps = [value for value in values if isinstance(value, Ramp)]
    return sorted(
        {place for ramp in ramps for place, _ in ramp.points} | {i / 64 for i in range(65)}
    )
