"""Specs read back from the database, where an earlier version may have accepted more than this one.

Whoever only shows a run shows its spec as it stands; here it is read to be run, or built upon.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from domain.errors import FieldError, SpecInvalid
from domain.field_errors import field_errors
from domain.presets import RUN_SPEC
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec

OWN_BUSINESS = frozenset({"name", "tags", "priority", "training", "resources"})
"""Of the run alone: what its weights are is in `data`, `model` and `method`."""


def read(stored: Mapping[str, Any]) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Return the spec of a run.

    Raises SpecInvalid naming each field that this version refuses, and what to do.
    """
    try:
        return RUN_SPEC.validate_python(stored)
    except ValidationError as error:
        told = field_errors(error.errors(include_url=False), stored)
    remedy = "another version of PART Lab took it; submit the run again with another value"
    raise SpecInvalid([FieldError(one.pointer, f"{one.detail} ({remedy})") for one in told])


def read_source(stored: Mapping[str, Any]) -> TrainSpec:
    """Return the spec behind the weights of a training run.

    Weights outlive the bounds of the day: a refused field of OWN_BUSINESS counts as left out.
    Raises SpecInvalid where what the weights are, or how they are judged, is refused.
    """
    try:
        return TrainSpec.model_validate(stored)
    except ValidationError as error:
        told = field_errors(error.errors(include_url=False), stored)
    for path in (one.pointer.split("/")[1:] for one in told):
        if path and path[0] in OWN_BUSINESS:
            stored = _without(stored, path)
    spec = read(stored)
    assert isinstance(spec, TrainSpec), "the caller looked at the run's kind"
    return spec


def _without(tree: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the same without the field at a path; of a list, without the whole list."""
    name, *rest = path
    below = tree.get(name)
    kept = {other: value for other, value in tree.items() if other != name}
    return {**kept, name: _without(below, rest)} if rest and isinstance(below, Mapping) else kept
