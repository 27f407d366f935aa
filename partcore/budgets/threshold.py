"""The report's PART-M: two radii and nothing between."""

from dataclasses import dataclass

from torch import Tensor

from partcore.budgets.unit_range import half_where_constant, unit_range


@dataclass(frozen=True)
class Threshold:
    """S = 1 where M^ >= threshold, else 0; M^ the map scaled to [0, 1] per image."""

    threshold: float = 0.5

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in {0, 1}; 1/2 where the map is constant."""
        hot = (unit_range(heatmap) >= self.threshold).to(heatmap.dtype)
        return half_where_constant(hot, heatmap)
