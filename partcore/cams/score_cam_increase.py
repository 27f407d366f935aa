"""Score-CAM by the increase in confidence: the report's Eq. 6, taken literally."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum
from partcore.cams.scores import Scores, target_log_odds, target_logit


@dataclass(frozen=True)
class ScoreCamIncrease:
    """L = ReLU(sum_k w_k A_k), w_k = softmax(f(x o M_k))_c - softmax(f(x_b))_c (Eq. 6).

    Weights may be negative. The report leaves the baseline x_b open; here it is the black image,
    which is what a mask of zeros makes of x.
    """

    scores: Scores

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w). All zero where every channel is."""
        scores = self.scores(readout, target_log_odds)  # (N, K)
        weights = scores.sigmoid() - black_probability(readout)[:, None]
        # An unscored channel takes no part; without this it would weigh -p_b.
        return weighted_sum(weights.masked_fill(scores.isneginf(), 0.0), readout.features)


@torch.no_grad()
def black_probability(readout: Readout) -> Tensor:
    """Return softmax(f(0))_c of every target, (N,), from one pass of a single image."""
    logits = readout.model(torch.zeros_like(readout.x[:1]))
    return target_logit(logits.softmax(dim=1).expand(len(readout.y), -1), readout.y)
