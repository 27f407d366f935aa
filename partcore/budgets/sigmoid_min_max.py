"""The report's Eq. 7, first form."""

from dataclasses import dataclass

from torch import Tensor

from partcore.budgets.unit_range import half_where_constant, unit_range


@dataclass(frozen=True)
class SigmoidMinMax:
    """S = sigma(tau (M - min M) / (max M - min M)) (Eq. 7); never under 1/2."""

    tau: float = 10.0

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [1/2, 1]."""
        return half_where_constant((self.tau * unit_range(heatmap)).sigmoid(), heatmap)
