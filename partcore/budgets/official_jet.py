"""The mask of PART's published code, for reproduction alone (defect 2)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from partcore.budgets.unit_range import unit_range
from partcore.budgets.z_score import z_score


@dataclass(frozen=True)
class OfficialJet:
    """S = 1 where z(jet(M^²)) > 1, for each of the three colour channels by itself.

    The squared map is coloured by matplotlib's jet, the colours of an image are z-scored together.
    The hottest pixels, dark red, are low in green and blue and often low in red too: they get the
    low radius. A constant map gives 1/2.
    """

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, 3, H, W) in {0, 1}."""
        coloured = jet(unit_range(heatmap).square())
        hot = (z_score(coloured) > 1).to(heatmap.dtype)
        constant = heatmap.amax(dim=(1, 2)) - heatmap.amin(dim=(1, 2)) <= 0
        return torch.where(constant[:, None, None, None], 0.5, hot)


def jet(values: Tensor) -> Tensor:
    """matplotlib's jet as its piecewise-linear definition. (N, H, W) in [0, 1] to (N, 3, H, W)."""
    red = _piecewise(values, ((0.0, 0.0), (0.35, 0.0), (0.66, 1.0), (0.89, 1.0), (1.0, 0.5)))
    green = _piecewise(
        values, ((0.0, 0.0), (0.125, 0.0), (0.375, 1.0), (0.64, 1.0), (0.91, 0.0), (1.0, 0.0))
    )
    blue = _piecewise(values, ((0.0, 0.5), (0.11, 1.0), (0.34, 1.0), (0.65, 0.0), (1.0, 0.0)))
    return torch.stack([red, green, blue], dim=1)


def _piecewise(values: Tensor, knots: tuple[tuple[float, float], ...]) -> Tensor:
    result = torch.full_like(values, knots[0][1])
    for (start, low), (end, high) in pairwise(knots):
        share = ((values - start) / (end - start)).clamp(0, 1)
        result = result + (high - low) * share
    return result
