"""Channel scores whose passes of masked images run in bfloat16."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, Scores, target_logit
from partcore.models.classifier import CamClassifier


class NarrowBody(nn.Module):
    """A body with its convolutions in bfloat16; features leave in float32."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, K, h, w)."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            features: Tensor = self.body(x)
        return features.float()


@dataclass(frozen=True)
class NarrowScores:
    """Another estimator's scores; the maps themselves stay in float32."""

    scores: Scores

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        model = readout.model
        narrow = CamClassifier(model.normalise, NarrowBody(model.body), model.head)
        narrow.train(model.training)
        return self.scores(replace(readout, model=narrow), quantity)
