"""The PART paper's rule: what stands out gets the high radius."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.budgets.unit_range import half_where_constant


@dataclass(frozen=True)
class ZScore:
    """S = 1 where (M - mean M) / std M > above, else 0 (arXiv 2406.00685)."""

    above: float = 1.0

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in {0, 1}; 1/2 where the map is constant."""
        return half_where_constant((z_score(heatmap) > self.above).to(heatmap.dtype), heatmap)


def z_score(values: Tensor) -> Tensor:
    """(v - mean v) / std v per image, all zero where v is constant. (N, ...) to the same."""
    flat = values.flatten(1)
    mean, std = flat.mean(dim=1, keepdim=True), flat.std(dim=1, correction=0, keepdim=True)
    return ((flat - mean) / torch.where(std > 0, std, 1.0)).view_as(values)
