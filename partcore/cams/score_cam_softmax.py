"""Score-CAM (Wang et al., CVPR-W 2020, https://arxiv.org/abs/1910.01279), Algorithm 1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum
from partcore.cams.scores import Scores, target_log_odds


@dataclass(frozen=True)
class ScoreCamSoftmax:
    """L = ReLU(sum_k w_k A_k), w = softmax over channels of p_k - p_b, p_k = softmax(f(x o M_k))_c.

    The baseline p_b is the same for every channel and leaves the softmax unchanged, so no pass is
    spent on it.
    """

    scores: Scores

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w). All zero where every channel is."""
        scores = self.scores(readout, target_log_odds)  # (N, K)
        # An unscored channel takes no part; its probability of 0 alone would still weigh e^0.
        likely = scores.sigmoid().masked_fill(scores.isneginf(), -torch.inf)
        return weighted_sum(likely.softmax(dim=1).nan_to_num(0.0), readout.features)
