"""Score-CAM (Wang et al., CVPR-W 2020, https://arxiv.org/abs/1910.01279), as grad-cam defines it.

The channel weights are a softmax over channels of the raw target logit of the masked image; the
report's Eq. 6 and the paper's Algorithm 1 differ and are ``ScoreCamIncrease`` and
``ScoreCamSoftmax``.
"""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum
from partcore.cams.scores import Scores, target_logit


@dataclass(frozen=True)
class ScoreCam:
    """L = ReLU(sum_k w_k A_k), w the softmax over channels of the scores."""

    scores: Scores

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w). All zero where every channel is."""
        # A channel that is zero adds nothing to the map, and leaving it out of the softmax scales
        # the other weights alike, which the later min-max removes.
        weights = self.scores(readout, target_logit).softmax(dim=1).nan_to_num(0.0)
        return weighted_sum(weights, readout.features)
