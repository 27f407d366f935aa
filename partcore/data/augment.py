"""Random crops and flips, vectorised, drawn from the run's generator."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit


def to_unit(x: Tensor) -> Tensor:
    """uint8 (N, C, H, W) to float in [0, 1]."""
    return x.float() / 255


@dataclass(frozen=True)
class Augmentation:
    """Zero-pad by ``pad`` pixels, crop at random, flip left-right at random if ``flip``."""

    pad: int
    flip: bool

    def __call__(self, x: Tensor, *, generator: Generator) -> Tensor:
        """x: uint8 (N, C, H, W). Returns the same shape; draws three numbers an image."""
        count, _, height, width = x.shape
        draws = torch.rand(count, 3, generator=generator)
        top, left = (draws[:, :2] * (2 * self.pad + 1)).long().clamp(max=2 * self.pad).unbind(1)
        rows = top[:, None] + torch.arange(height)  # (N, H)
        columns = left[:, None] + torch.arange(width)  # (N, W)
        if self.flip:
            mirrored = draws[:, 2] < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = F.pad(x, (self.pad,) * 4)
        rows, columns = rows.to(x.device), columns.to(x.device)
        sample = torch.arange(count, device=x.device)[:, None, None]
        # advanced indices around the channel slice: (N, H, W, C)
        return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
