"""Images read between their pixels, and separable filters as one matrix an axis."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Fold = Callable[[Tensor, int], Tensor]
"""From any whole place on an axis, and the axis's length, to a place inside it."""


def nearest(place: Tensor, size: int) -> Tensor:
    """Continue an axis with its last pixel: a a | a b c | c c."""
    return place.clamp(0, size - 1)


def mirrored(place: Tensor, size: int) -> Tensor:
    """Continue an axis with its mirror image: b a | a b c | c b."""
    place = place.remainder(2 * size)
    return torch.minimum(place, 2 * size - 1 - place)


def gaussian_matrix(size: int, sigma: float, fold: Fold, *, truncate: float = 4.0) -> Tensor:
    """Return the Gaussian filter of an axis, (size, size) float64; each row sums to 1.

    sigma: pixels. truncate: deviations after which the filter ends.
    """
    reach = int(truncate * sigma + 0.5)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    place = fold(torch.arange(size)[:, None] + offset, size)  # (size, 2 reach + 1)
    rows = torch.zeros(size, size, dtype=torch.float64)
    return rows.scatter_add_(1, place, (weight / weight.sum()).expand(size, -1))


def box_matrix(source: int, target: int) -> Tensor:
    """Return the box filter that brings an axis to another length, (target, source) float64.

    A pixel counts where its centre lies in the target pixel, or in the source pixel around the
    target's centre if those are larger.
    """
    scale = source / target
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) * scale
    pixel = torch.arange(source, dtype=torch.float64) + 0.5
    distance = (pixel - centre[:, None]) / max(scale, 1.0)
    inside = ((distance > -0.5) & (distance <= 0.5)).double()
    return inside / inside.sum(dim=1, keepdim=True)


def along_both(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Filter both axes. x: (N, C, H, W); rows: (H', H); columns: (W', W)."""
    return rows.to(x) @ x @ columns.to(x).T


def read_at(
    x: Tensor, row: Tensor, column: Tensor, *, beyond: Literal["border", "reflection"] = "border"
) -> Tensor:
    """Read images at any places, bilinearly.

    x: (N, C, H, W). row, column: pixels from the first one's centre, broadcastable to (N, H', W').
    beyond: what is outside an image; ``reflection`` is about the outer edge of the last pixel.
    """
    height, width = x.shape[-2:]
    shape = (len(x), *(row + column).shape[1:])
    down, right = (2 * row + 1) / height - 1, (2 * column + 1) / width - 1  # -1 to 1: the edges
    grid = torch.stack([right.expand(shape), down.expand(shape)], dim=-1).to(x)
    return grid_sample(x, grid, mode="bilinear", padding_mode=beyond, align_corners=False)


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every pixel, (1, H, 1) and (1, 1, W)."""
    height, width = x.shape[-2:]
    row = torch.arange(height, dtype=x.dtype, device=x.device)[None, :, None]
    column = torch.arange(width, dtype=x.dtype, device=x.device)[None, None, :]
    return row, column


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Return the middle of each image, ``factor`` times as large, in the same size.

    The published code rounds the part it enlarges to whole pixels; here it is not rounded.
    """
    centres = ((size - 1) / 2 for size in x.shape[-2:])
    pairs = zip(places(x), centres, strict=True)
    row, column = (centre + (place - centre) / factor for place, centre in pairs)
    return read_at(x, row, column)
