"""What all masks share: the per-image scaling of a heatmap, and its constant case."""

from typing import Protocol

import torch
from torch import Tensor

from partcore.cams.readout import is_constant


class Mask(Protocol):
    """A frozen callable from heatmaps to masks."""

    def __call__(self, heatmap: Tensor) -> Tensor:
        """heatmap: (N, H, W), non-negative. Returns S: (N, H, W), in [0, 1]; never NaN."""
        ...


def unit_range(heatmap: Tensor) -> Tensor:
    """(M - min M) / (max M - min M) per image; 0 where M is constant. (N, H, W) to the same."""
    low = heatmap.amin(dim=(1, 2), keepdim=True)
    span = heatmap.amax(dim=(1, 2), keepdim=True) - low
    return (heatmap - low) / torch.where(span > 0, span, 1.0)


def half_where_constant(mask: Tensor, heatmap: Tensor) -> Tensor:
    """S = 1/2 on every pixel of an image whose map is constant: it prefers no pixel."""
    return torch.where(is_constant(heatmap)[:, None, None], 0.5, mask)
