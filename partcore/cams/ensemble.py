"""The PART++ ensemble: Eq. 9 of the report."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Cam, Readout, heatmap


@dataclass(frozen=True)
class Ensemble:
    """Mean of its members' heatmaps, each normalised to [0, 1] per image first (Eq. 9)."""

    members: tuple[Cam, ...]

    def heatmaps(self, readout: Readout) -> Tensor:
        """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
        height, width = readout.x.shape[-2:]
        return torch.stack([heatmap(cam(readout), (height, width)) for cam in self.members])

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        return self.heatmaps(readout).mean(dim=0)
