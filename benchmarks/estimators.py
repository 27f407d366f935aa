"""The ways to score Score-CAM's channels that are compared, under the names tables use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from partcore.cams import (
    Cam,
    ClusteredScores,
    Ensemble,
    FeatureSpaceScores,
    GradCam,
    GradCamPlusPlus,
    MaskGradientScores,
    MeanScores,
    Readout,
    ScoreCam,
    ScoreCamIncrease,
    Scores,
)
from partcore.cams.first_channels_scores import FirstChannelsScores
from partcore.cams.scores import Quantity, is_alive, target_logit
from partcore.models import CamClassifier

SURE = 30.0
"""A score that every definition takes for the same full weight."""


@dataclass(frozen=True)
class NoScores:
    """The same for every channel that is not zero: Score-CAM without scores."""

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:  # noqa: ARG002
        """Return (N, K)."""
        alive = is_alive(readout.features)
        return alive.to(readout.features).mul(SURE).masked_fill(~alive, -torch.inf)


class Bf16Body(nn.Module):
    """A network's body with its convolutions in bfloat16; features leave in float32."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, K, h, w)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features: Tensor = self.body(x)
        return features.float()


@dataclass(frozen=True)
class InBf16:
    """Another estimator's scores, with its passes of masked images in bfloat16."""

    scores: Scores

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        model = readout.model
        narrow = CamClassifier(model.normalise, Bf16Body(model.body), model.head)
        return self.scores(replace(readout, model=narrow), quantity)


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
    "mean, in bf16": InBf16(MEAN),
    "8 centroids, in bf16": InBf16(ClusteredScores(8)),
    "8 centroids + mean, in bf16": InBf16(ClusteredScores(8, refine=MEAN)),
}
DEFINITIONS: Mapping[str, Callable[[Scores], Cam]] = {
    "score-cam": ScoreCam,
    "score-cam-increase": ScoreCamIncrease,
}


def ensemble(definition: str, scores: Scores) -> Ensemble:
    """Return the maps of PART++ with one definition of Score-CAM, its channels scored so."""
    return Ensemble((GradCam(), GradCamPlusPlus(), DEFINITIONS[definition](scores)))
