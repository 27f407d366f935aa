"""Noise of each pixel and channel by itself; strengths do not depend on the size of an image."""

from dataclasses import dataclass

from torch import Tensor

from partcore.corruptions.draws import Draws


@dataclass(frozen=True)
class GaussianNoise:
    """x + std z: the sensor in little light."""

    std: float
    """Of [0, 1]."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', unclipped. x: (N, C, H, W) in [0, 1]."""
        return x + self.std * draws.normal(*x.shape[1:]).to(x)


@dataclass(frozen=True)
class ShotNoise:
    """Poisson(photons x) / photons: light comes in pieces."""

    photons: float
    """Mean count of a white pixel."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', unclipped. x: (N, C, H, W) in [0, 1]."""
        return draws.poisson(self.photons * x).to(x) / self.photons


@dataclass(frozen=True)
class ImpulseNoise:
    """Salt and pepper, as much of one as of the other."""

    share: float
    """Of the values that are lost."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        u = draws.uniform(0, 1, *x.shape[1:]).to(x)
        return x.masked_fill(u < self.share / 2, 0).masked_fill(u >= 1 - self.share / 2, 1)


@dataclass(frozen=True)
class SpeckleNoise:
    """x + std x z: noise that grows with brightness."""

    std: float

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', unclipped. x: (N, C, H, W) in [0, 1]."""
        return x + self.std * x * draws.normal(*x.shape[1:]).to(x)
