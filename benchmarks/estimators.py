"""The ways to score Score-CAM's channels that are compared, under the names tables use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams import (
    Cam,
    ClusteredScores,
    Ensemble,
    FeatureSpaceScores,
    GradCam,
    GradCamPlusPlus,
    MaskGradientScores,
    MeanScores,
    NarrowScores,
    Readout,
    ScoreCam,
    ScoreCamIncrease,
    Scores,
)
from partcore.cams.first_channels_scores import FirstChannelsScores
from partcore.cams.scores import Quantity, is_alive, target_logit

SURE = 30.0
"""A score that every definition takes for the same full weight."""


@dataclass(frozen=True)
class NoScores:
    """The same for every channel that is not zero: Score-CAM without scores."""

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:  # noqa: ARG002
        """Return (N, K)."""
        alive = is_alive(readout.features)
        return alive.to(readout.features).mul(SURE).masked_fill(~alive, -torch.inf)


MEAN = MeanScores((MaskGradientScores(), FeatureSpaceScores()))
ESTIMATORS: Mapping[str, Scores] = {
    "none (uniform weights)": NoScores(),
    "first 32 channels": FirstChannelsScores(32),
    "feature space": FeatureSpaceScores(),
    "mask gradient": MaskGradientScores(),
    "mean of the two": MEAN,
    "4 centroids": ClusteredScores(4),
    "8 centroids": ClusteredScores(8),
    "16 centroids": ClusteredScores(16),
    "4 centroids + mean": ClusteredScores(4, refine=MEAN),
    "8 centroids + mean": ClusteredScores(8, refine=MEAN),
    "mean, in bf16": NarrowScores(MEAN),
    "8 centroids, in bf16": NarrowScores(ClusteredScores(8)),
    "8 centroids + mean, in bf16": NarrowScores(ClusteredScores(8, refine=MEAN)),
}
DEFINITIONS: Mapping[str, Callable[[Scores], Cam]] = {
    "score-cam": ScoreCam,
    "score-cam-increase": ScoreCamIncrease,
}


def ensemble(definition: str, scores: Scores) -> Ensemble:
    """Return the maps of PART++ with one definition of Score-CAM, its channels scored so."""
    return Ensemble((GradCam(), GradCamPlusPlus(), DEFINITIONS[definition](scores)))
