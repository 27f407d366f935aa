"""The report's code: Score-CAM over the first channels alone (defect 5), for reproduction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, is_alive, score_masks, target_logit


@dataclass(frozen=True)
class FirstChannelsScores:
    """Exact scores of the first ``count`` channels; the others take no part."""

    count: int = 32
    chunk: int = 256

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K), minus infinity from channel ``count`` on."""
        features = readout.features[:, : self.count]
        image, channel = is_alive(features).nonzero().unbind(dim=1)
        scores = features.new_full(readout.features.shape[:2], -torch.inf)
        masks = features[image, channel]
        scores[image, channel] = score_masks(readout, image, masks, quantity, chunk=self.chunk)
        return scores
