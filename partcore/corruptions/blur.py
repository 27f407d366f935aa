"""Blur: lens, shake, approach.

Radii and deviations are pixels of a 32x32 image; larger images need larger ones for the same loss.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from partcore.corruptions.draws import Draws
from partcore.corruptions.sampling import (
    along_both,
    gaussian_matrix,
    nearest,
    places,
    read_at,
    zoomed,
)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian filter that ends after four deviations."""

    sigma: float
    """Pixels."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        rows, columns = (gaussian_matrix(size, self.sigma, nearest) for size in x.shape[-2:])
        return along_both(x, rows, columns)


@dataclass(frozen=True)
class DefocusBlur:
    """A disk, its edge softened by a 3x3 Gaussian."""

    radius: float
    """Pixels."""
    edge: float
    """Deviation of the Gaussian, pixels."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1], H and W above ``radius`` + 2."""
        kernel = self.kernel().to(x)
        reach, channels = len(kernel) // 2, x.shape[1]
        wide = pad(x, (reach,) * 4, mode="reflect")
        return conv2d(wide, kernel.expand(channels, 1, -1, -1), groups=channels)

    def kernel(self) -> Tensor:
        """Return the filter, (K, K) float64, K odd; its sum is 1."""
        reach = math.ceil(self.radius) + 1
        square = torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2
        disk = (square[:, None] + square <= self.radius**2).double()
        side = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64) / (2 * self.edge**2))
        soft = torch.outer(side, side) / side.sum() ** 2
        return conv2d(disk[None, None] / disk.sum(), soft[None, None], padding=1)[0, 0]


@dataclass(frozen=True)
class MotionBlur:
    """A half Gaussian along a line whose angle each sample draws.

    The line is read bilinearly; the published code rounds it to whole pixels.
    """

    radius: int
    """The line is 2 ``radius`` + 1 pixels long."""
    sigma: float
    """Pixels."""
    angles: tuple[float, float] = (-45, 45)
    """Degrees from the horizontal."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        angle = torch.deg2rad(draws.uniform(*self.angles, 1, 1)).to(x)  # (N, 1, 1)
        down, right = angle.sin(), angle.cos()
        row, column = places(x)
        total = torch.zeros_like(x)
        for i, weight in enumerate(self.weights()):
            total += weight * read_at(x, row + i * down, column + i * right)
        return total

    def weights(self) -> list[float]:
        """Return what the pixels of the line count, from its start; their sum is 1."""
        weight = [math.exp(-(i**2) / (2 * self.sigma**2)) for i in range(2 * self.radius + 1)]
        return [one / sum(weight) for one in weight]


@dataclass(frozen=True)
class ZoomBlur:
    """The mean of an image and its enlargements by 0, 1, ... per cent; the same at any size."""

    most: int
    """Largest enlargement, per cent."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        total = 2 * x  # as published: the image itself counts beside its enlargement by nothing
        for percent in range(1, self.most + 1):
            total = total + zoomed(x, 1 + percent / 100)
        return total / (self.most + 2)
