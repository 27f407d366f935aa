"""Random crops and flips, vectorised, drawn from the run's generator."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit


def to_unit(x: Tensor) -> Tensor:
    """uint8 (N, C, H, W) to float in [0, 1]."""
    return x.float() / 255


@dataclass(frozen=True)
class Warp:
    """One crop and flip for each of N images; what belongs to their pixels moves alike."""

    rows: Tensor
    """(N, H), of the padded image."""
    columns: Tensor
    """(N, W)."""
    pad: int

    def __call__(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns the same shape; padding is 0."""
        padded = F.pad(x, (self.pad,) * 4)
        rows, columns = self.rows.to(x.device), self.columns.to(x.device)
        sample = torch.arange(len(x), device=x.device)[:, None, None]
        # advanced indices around the channel slice: (N, H, W, C)
        return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def part(self, which: slice) -> "Warp":
        """Return the warp of some of the images."""
        return Warp(self.rows[which], self.columns[which], self.pad)


@dataclass(frozen=True)
class Augmentation:
    """Zero-pad by ``pad`` pixels, crop at random, flip left-right at random if ``flip``."""

    pad: int
    flip: bool

    def draw(self, shape: torch.Size, *, generator: Generator) -> Warp:
        """Draw three numbers for each of the images of ``shape``, (N, C, H, W)."""
        count, _, height, width = shape
        draws = torch.rand(count, 3, generator=generator)
        top, left = (draws[:, :2] * (2 * self.pad + 1)).long().clamp(max=2 * self.pad).unbind(1)
        rows = top[:, None] + torch.arange(height)  # (N, H)
        columns = left[:, None] + torch.arange(width)  # (N, W)
        if self.flip:
            mirrored = draws[:, 2] < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        return Warp(rows, columns, self.pad)

    def __call__(self, x: Tensor, *, generator: Generator) -> Tensor:
        """x: uint8 (N, C, H, W). Returns the same shape."""
        return self.draw(x.shape, generator=generator)(x)
