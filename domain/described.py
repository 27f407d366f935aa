"""A run as a reader meets it: what is known of it beside the figures of its evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from domain.catalog import DATASETS
from domain.spec import EvaluateSpec, TrainSpec

S_co = TypeVar("S_co", bound=TrainSpec | EvaluateSpec, covariant=True)
Fact = str | int | float | bool | None


@dataclass(frozen=True)
class Described(Generic[S_co]):
    """A run: its names, its spec, and where it ran."""

    run: str
    title: str
    """What people call it."""
    spec: S_co
    spec_sha256: str
    facts: Mapping[str, Fact]
    """What the run said of its host and data when it began; empty if it said nothing."""


def size_of_test_set(spec: TrainSpec | EvaluateSpec, judged: int) -> int | None:
    """Return how many images the whole test set has; None where that is not known.

    judged: how many of them the evaluation looked at. Of a folder only so much is known: where
    nothing limited the images, these were all.
    """
    known = DATASETS[spec.data.dataset].test
    if known is not None:
        return known
    limits = (spec.data.test_limit, spec.evaluation.images)
    return judged if all(limit is None or judged < limit for limit in limits) else None


def dataset_name(spec: TrainSpec | EvaluateSpec) -> str:
    """Return the dataset's name, or that of the folder."""
    return spec.data.folder or spec.data.dataset
