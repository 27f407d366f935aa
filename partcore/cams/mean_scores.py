"""Channel scores from several estimators at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, Scores, target_logit


@dataclass(frozen=True)
class MeanScores:
    """Mean of its members' scores, which are all in the units of the one quantity.

    Of ``MaskGradientScores`` and ``FeatureSpaceScores``, whose errors differ: the first is local in
    the image, the second global in the features.
    """

    members: tuple[Scores, ...]

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        return torch.stack([scores(readout, quantity) for scores in self.members]).mean(dim=0)
