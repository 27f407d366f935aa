"""The mask without a sigmoid."""

from dataclasses import dataclass

from torch import Tensor

from partcore.budgets.unit_range import half_where_constant, unit_range


@dataclass(frozen=True)
class MinMax:
    """S = M^, the map scaled to [0, 1] per image."""

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [0, 1]."""
        return half_where_constant(unit_range(heatmap), heatmap)
