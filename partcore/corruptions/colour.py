"""Colour and light: brightness and saturation as in HSV, and contrast. The same at any size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.corruptions.draws import Draws


@dataclass(frozen=True)
class Brightness:
    """More V of HSV, at the same hue and saturation."""

    more: float
    """Of [0, 1]."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        peak = x.amax(dim=1, keepdim=True)
        target = (peak + self.more).clamp(max=1)
        return torch.where(peak > 0, x * target / peak, target)


@dataclass(frozen=True)
class Contrast:
    """Each channel nearer to its mean over the image."""

    share: float
    """Of the distance that is left."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return mean + self.share * (x - mean)


@dataclass(frozen=True)
class Saturate:
    """``gain`` times the S of HSV, plus ``offset``; images of one channel have none and stay.

    Grey pixels have no hue either; with an ``offset`` they turn red, which is hue 0, as published.
    """

    gain: float
    offset: float = 0.0

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        if x.shape[1] == 1:
            return x
        peak = x.amax(dim=1, keepdim=True)
        spread = peak - x.amin(dim=1, keepdim=True)
        saturation = torch.where(peak > 0, spread / peak, 0)
        target = (self.gain * saturation + self.offset).clamp(max=1)
        red = torch.cat([torch.zeros_like(peak), peak, peak], dim=1)
        # Each channel's distance below the peak, relative to the spread, is the hue: it stays.
        below = torch.where(spread > 0, (peak - x) * peak / spread, red)
        return peak - target * below
