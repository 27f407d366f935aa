"""Eq. 8 of the report: the radius of every pixel."""

from torch import Tensor


def pixel_budget(mask: Tensor, *, epsilon_high: float, epsilon_low: float) -> Tensor:
    """epsilon_w = S epsilon_high + (1 - S) epsilon_low (Eq. 8).

    mask: S, (N, H, W) or (N, C, H, W), in [0, 1]. Radii in pixels of [0, 1]. Returns (N, 1, H, W)
    or (N, C, H, W).
    """
    epsilon = epsilon_low + mask * (epsilon_high - epsilon_low)
    return epsilon if mask.ndim == 4 else epsilon[:, None]
