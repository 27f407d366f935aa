"""The default mask: the report's Eq. 7 with its sigmoid centred."""

from dataclasses import dataclass

from torch import Tensor

from partcore.budgets.unit_range import half_where_constant, unit_range


@dataclass(frozen=True)
class CentredSigmoid:
    """S = sigma(tau (M^ - 1/2)), M^ the map scaled to [0, 1] per image.

    Deviation from Eq. 7, whose argument is never negative, so that its S is never under 1/2 and its
    budget almost constant; centred, S spreads over the whole range.
    """

    tau: float = 10.0

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [0, 1]."""
        return half_where_constant((self.tau * (unit_range(heatmap) - 0.5)).sigmoid(), heatmap)
