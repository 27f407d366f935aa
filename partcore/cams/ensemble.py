"""The PART++ ensemble: Eq. 9 of the report."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from partcore.cams.readout import Cam, Readout, heatmap


class Maps(Protocol):
    """A way from a readout to the heatmap that decides the budget."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        ...


@dataclass(frozen=True)
class Ensemble:
    """Mean of its members' heatmaps, each normalised to [0, 1] per image first (Eq. 9).

    Raises ValueError when weights are not one for each member, finite, non-negative and not all 0.
    """

    members: tuple[Cam, ...]
    weights: tuple[float, ...] | None = None
    """One a member, of any sum (the report's "dominant" rows); None weighs all alike."""

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != len(self.members):
            raise ValueError(f"{len(self.members)} members but {len(self.weights)} weights")
        if not all(math.isfinite(w) and w >= 0 for w in self.weights) or sum(self.weights) == 0:
            raise ValueError(f"weights must be finite, non-negative and not all 0: {self.weights}")

    def heatmaps(self, readout: Readout) -> Tensor:
        """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
        return member_heatmaps(self.members, readout)

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        heat = self.heatmaps(readout)
        if self.weights is None:
            return heat.mean(dim=0)
        weights = heat.new_tensor(self.weights)[:, None]
        return weighted_mean(heat, weights.expand(heat.shape[:2]))


def member_heatmaps(members: tuple[Cam, ...], readout: Readout) -> Tensor:
    """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
    height, width = readout.x.shape[-2:]
    return torch.stack([heatmap(cam(readout), (height, width)) for cam in members])


def weighted_mean(heat: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of members' heatmaps by each image's own weights, (N, H, W), in [0, 1].

    heat: (members, N, H, W); weights: (members, N), non-negative. Equal where all are 0.
    """
    total = weights.sum(dim=0)
    share = weights / torch.where(total > 0, total, 1.0)
    share = torch.where(total > 0, share, 1 / len(heat))
    return torch.einsum("mn,mnhw->nhw", share, heat).clamp(0.0, 1.0)
