"""The mask whose values are the same for every image, in another order."""

from dataclasses import dataclass

from torch import Tensor

from partcore.budgets.unit_range import half_where_constant


@dataclass(frozen=True)
class Quantile:
    """S = (how many pixels of the image are cooler) / (H W - 1); ties go by place."""

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in [0, 1]."""
        flat = heatmap.flatten(1)
        rank = flat.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        share = rank.to(heatmap.dtype) / max(1, flat.shape[1] - 1)
        return half_where_constant(share.view_as(heatmap), heatmap)
