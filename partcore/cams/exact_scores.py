"""The scores Score-CAM defines: one forward pass a channel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, is_alive, score_masks, target_logit


@dataclass(frozen=True)
class ExactScores:
    """The definition: every channel's mask on the image, through the network."""

    chunk: int = 256
    """Masked images a forward pass."""

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        features = readout.features
        scores = features.new_full(features.shape[:2], -torch.inf)
        alive = is_alive(features)
        image, channel = alive.nonzero().unbind(dim=1)
        masks = features[image, channel]
        scores[image, channel] = score_masks(readout, image, masks, quantity, chunk=self.chunk)
        return scores
