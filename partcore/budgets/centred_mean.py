"""The report's second form of Eq. 7, centred."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.budgets.unit_range import half_where_constant


@dataclass(frozen=True)
class CentredMean:
    """S = sigma(tau (M / mean M - 1)): 1/2 where the map has its mean."""

    tau: float = 10.0

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [0, 1]."""
        mean = heatmap.mean(dim=(1, 2), keepdim=True)
        relative = heatmap / torch.where(mean > 0, mean, 1.0)
        return half_where_constant((self.tau * (relative - 1)).sigmoid(), heatmap)
