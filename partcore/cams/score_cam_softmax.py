"""Score-CAM (Wang et al., CVPR-W 2020, https://arxiv.org/abs/1910.01279), Algorithm 1."""

from dataclasses import dataclass

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
        weights = self.scores(readout, target_log_odds).sigmoid().softmax(dim=1)
        return weighted_sum(weights, readout.features)
