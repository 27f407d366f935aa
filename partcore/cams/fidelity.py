"""How near an estimated map is to the exact one."""

from collections.abc import Callable

import torch
from torch import Tensor

from partcore.cams.ensemble import Maps
from partcore.cams.readout import Readout


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation over pixels of two maps, in float64 and in [-1, 1].

    first, second: (..., H, W), broadcastable. Returns (...): 1 where both maps are constant (they
    prefer the same: no pixel), 0 where one alone is.
    """
    one, other = _standard(first), _standard(second)
    both = ~one.any(dim=-1) & ~other.any(dim=-1)
    return torch.where(both, 1.0, (one * other).sum(dim=-1).clamp(-1.0, 1.0))


def _standard(maps: Tensor) -> Tensor:
    """Centre and scale to length 1, (..., H, W) to (..., H W); a constant map is exactly 0."""
    flat = maps.flatten(-2).double()
    shifted = flat - flat.amin(dim=-1, keepdim=True)
    peak = shifted.amax(dim=-1, keepdim=True)
    scaled = shifted / torch.where(peak > 0, peak, 1.0)
    centred = scaled - scaled.mean(dim=-1, keepdim=True)
    norm = centred.norm(dim=-1, keepdim=True)
    return centred / torch.where(norm > 0, norm, 1.0)


def unchanged(maps: Tensor) -> Tensor:
    """Compare heatmaps themselves."""
    return maps


def fidelity(
    readout: Readout,
    estimate: Maps,
    exact: Maps,
    mask: Callable[[Tensor], Tensor] = unchanged,
) -> Tensor:
    """Return per image the correlation of two ways to the same budget, (N,).

    ``mask`` takes heatmaps (N, H, W) to masks; a budget is affine in its mask (Eq. 8) and
    correlates alike. Judge by masks: heatmaps forgive too much.
    """
    return pearson(mask(estimate(readout)), mask(exact(readout)))
