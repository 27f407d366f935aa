"""Which estimator of Score-CAM's channel scores a run trusts: a floor on fidelity."""

from collections.abc import Sequence

import torch
from torch import Tensor

from domain import spec as s
from partcore import build
from partcore.cams import fidelity, read
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen

LADDER: Sequence[s.ScoringSpec] = (
    s.FeatureSpaceScoring(),
    s.MaskGradientScoring(),
    s.MeanScoring(),
    s.ClusteredScoring(centroids=8, precision="bf16"),
    s.ClusteredScoring(centroids=16, precision="bf16", refine=True),
    s.ExactScoring(),
)
"""From the cheapest to the definition. Mask gradient alone costs what the mean costs and is never
moved to."""
IMAGES = 8


def widened(scoring: s.ScoringSpec) -> s.ScoringSpec:
    """Return the same estimator with its passes in fp32."""
    if isinstance(scoring, s.MaskGradientScoring | s.MeanScoring | s.ClusteredScoring):
        return scoring.model_copy(update={"precision": "fp32"})
    return scoring


def better(scoring: s.ScoringSpec, *, narrow: bool) -> s.ScoringSpec | None:
    """Return the next estimator to try, None after the last.

    narrow: whether its passes may be in bf16, which a CPU that only emulates it must not.
    """
    rung = _next(scoring)
    return rung if rung is None or narrow else widened(rung)


def _next(scoring: s.ScoringSpec) -> s.ScoringSpec | None:
    if isinstance(scoring, s.ExactScoring):
        return None
    if isinstance(scoring, s.FeatureSpaceScoring | s.MaskGradientScoring):
        return LADDER[2]
    known = [rung for rung in LADDER if widened(rung) == widened(scoring)]
    return LADDER[LADDER.index(known[0]) + 1] if known else s.ExactScoring()


def is_estimated(method: s.Method) -> bool:
    """Return whether a method's maps hold an estimate that a floor watches."""
    return (
        isinstance(method, s.Part)
        and method.cam.fidelity_floor is not None
        and any(name.startswith("score-cam") for name in method.cam.members)
        and not isinstance(method.cam.scores, s.ExactScoring)
    )


def with_scores(method: s.Part, scoring: s.ScoringSpec) -> s.Part:
    """Return the method with another estimator."""
    return method.model_copy(update={"cam": method.cam.model_copy(update={"scores": scoring})})


@torch.no_grad()
def measured(model: CamClassifier, x: Tensor, y: Tensor, method: s.Part, progress: float) -> float:
    """Return the mean correlation of the budgets with those of exact Score-CAM."""
    exact = method.cam.model_copy(update={"scores": s.ExactScoring()})
    with evaluating(model), frozen(model):
        found = fidelity(
            read(model, x, y),
            build.ensemble(method.cam, progress),
            build.ensemble(exact, progress),
            build.mask(method.mask, progress),
        )
    return float(found.mean().item())
