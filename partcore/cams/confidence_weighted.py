"""An ensemble that trusts the members whose pixels keep the class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.ensemble import member_heatmaps, weighted_mean
from partcore.cams.readout import Cam, Readout, is_constant
from partcore.cams.scores import target_logit


@dataclass(frozen=True)
class ConfidenceWeighted:
    """Members weighted per image by the share of the target's probability that survives.

    w_m = p_m / sum_j p_j, p_m = softmax(f(x o M_m))_c: the image is masked with the member's own
    heatmap, one forward pass a member. A constant heatmap has weight 0.
    """

    members: tuple[Cam, ...]
    most_alone: bool = False
    """Take the member that keeps most, and no other: selection by input."""

    def heatmaps(self, readout: Readout) -> Tensor:
        """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
        return member_heatmaps(self.members, readout)

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        heat = self.heatmaps(readout)
        survival = torch.stack([_log_probability(readout, one) for one in heat])  # (members, N)
        constant = is_constant(heat.flatten(0, 1)).view(heat.shape[:2])
        survival = survival.masked_fill(constant, -torch.inf)
        if self.most_alone:
            winner = torch.zeros_like(survival).scatter_(0, survival.argmax(dim=0)[None], 1.0)
            return weighted_mean(heat, winner)
        return weighted_mean(heat, survival.softmax(dim=0).nan_to_num(0.0))


@torch.no_grad()
def _log_probability(readout: Readout, heat: Tensor) -> Tensor:
    """Return log softmax(f(x o M))_c, (N,). heat: (N, H, W)."""
    logits = readout.model(readout.x * heat[:, None])
    return target_logit(logits.log_softmax(dim=1), readout.y)
