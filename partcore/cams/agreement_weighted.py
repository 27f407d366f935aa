"""An ensemble that trusts the members the others agree with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.ensemble import member_heatmaps, weighted_mean
from partcore.cams.fidelity import pearson
from partcore.cams.readout import Cam, Readout, is_constant


@dataclass(frozen=True)
class AgreementWeighted:
    """Members weighted per image by their mean correlation with the others; costs no pass.

    A negative mean counts as 0. A constant heatmap has weight 0, and the others weigh alike where
    none agrees.
    """

    members: tuple[Cam, ...]

    def heatmaps(self, readout: Readout) -> Tensor:
        """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
        return member_heatmaps(self.members, readout)

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        heat = self.heatmaps(readout)
        return weighted_mean(heat, _agreement(heat))


def _agreement(heat: Tensor) -> Tensor:
    """Return each member's weight, (members, N), non-negative."""
    members = len(heat)
    pairs = pearson(heat[:, None], heat[None]).to(heat.dtype)  # (members, members, N)
    others = 1 - torch.eye(members, device=heat.device)[:, :, None]
    mean = (pairs * others).sum(dim=1) / max(members - 1, 1)
    alive = ~is_constant(heat.flatten(0, 1)).view(heat.shape[:2])
    weights = mean.clamp(min=0) * alive
    return torch.where(weights.sum(dim=0) > 0, weights, alive.to(weights.dtype))
