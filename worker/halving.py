"""Going on after memory ran out: the same batches, in more micro-batches, from the last checkpoint.

How many is a fact of the run, as its threads are: it outlives attempts and is told with the result.
"""

from collections.abc import Mapping
from typing import Any

from domain.events import Failed
from domain.spec import RunSpec, TrainSpec

FACT = "accumulation"
IN_TRAINING = (None, "prepare", "train")
"""Phases in which smaller micro-batches help."""


def as_it_goes_on(spec: RunSpec, facts: Mapping[str, Any] | None) -> RunSpec:
    """Return the spec with as many micro-batches as the run needs by now."""
    parts = (facts or {}).get(FACT)
    if not isinstance(spec, TrainSpec) or parts is None:
        return spec
    training = spec.training.model_copy(update={"accumulation": parts})
    return spec.model_copy(update={"training": training})


def more_parts(spec: RunSpec, outcome: object, phase: str | None, *, ranks: int) -> int | None:
    """Return into how many micro-batches to divide after an attempt ended so; None: it is over.

    spec: as the attempt had it. Two images are left for each, on every rank: batch norm needs them.
    """
    if not isinstance(spec, TrainSpec) or not spec.training.halve_on_out_of_memory:
        return None
    if not isinstance(outcome, Failed) or outcome.failure_class != "out-of-memory":
        return None
    parts = 2 * spec.training.accumulation
    fits = 2 * parts * ranks <= spec.training.batch_size
    return parts if fits and phase in IN_TRAINING else None
