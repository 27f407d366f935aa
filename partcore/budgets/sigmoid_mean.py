"""The report's Eq. 7, second form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.budgets.unit_range import half_where_constant


@dataclass(frozen=True)
class SigmoidMean:
    """S = sigma(tau M / mean M) (Eq. 7); never under 1/2, above 0.99 on most pixels at tau = 10."""

    tau: float = 10.0

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [1/2, 1]."""
        mean = heatmap.mean(dim=(1, 2), keepdim=True)
        relative = heatmap / torch.where(mean > 0, mean, 1.0)
        return half_where_constant((self.tau * relative).sigmoid(), heatmap)
