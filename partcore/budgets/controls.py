"""Masks to compare with: the same mean, and nothing of the map (or its opposite).

No paper ran them; without them a budget of 7/8 to 8/255 may only be a smaller radius.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.budgets.matching import with_mean
from partcore.randomness import Randomness, uniform


class Control(Protocol):
    """Replaces a mask by another of the same mean over each image."""

    def __call__(self, mask: Tensor, *, generator: Randomness) -> Tensor:
        """mask: (N, H, W) in [0, 1]. Returns the same shape and range."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """The pixels' own values, at random places."""

    def __call__(self, mask: Tensor, *, generator: Randomness) -> Tensor:
        """See Control."""
        flat = mask.flatten(1)
        order = uniform(flat.shape, generator, flat).argsort(dim=1)
        return flat.gather(1, order).view_as(mask)


@dataclass(frozen=True)
class Inverted:
    """1 - S, brought to the mean of S."""

    def __call__(self, mask: Tensor, *, generator: Randomness) -> Tensor:  # noqa: ARG002
        """See Control."""
        return with_mean(1 - mask, _means(mask))


@dataclass(frozen=True)
class Blurred:
    """S through a Gaussian of an eighth of the image's side, brought to its mean."""

    def __call__(self, mask: Tensor, *, generator: Randomness) -> Tensor:  # noqa: ARG002
        """See Control."""
        return with_mean(_blur(mask, mask.shape[-1] / 8), _means(mask))


@dataclass(frozen=True)
class Flat:
    """The mean of S everywhere."""

    def __call__(self, mask: Tensor, *, generator: Randomness) -> Tensor:  # noqa: ARG002
        """See Control."""
        return _means(mask).expand_as(mask).contiguous()


def _means(mask: Tensor) -> Tensor:
    return mask.flatten(1).mean(dim=1).view(-1, *(1,) * (mask.ndim - 1))


def _blur(mask: Tensor, deviation: float) -> Tensor:
    reach = max(1, round(2 * deviation))
    reach = min(reach, mask.shape[-1] - 1, mask.shape[-2] - 1)
    place = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    kernel = torch.exp(-place.square() / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    images = mask.reshape(-1, 1, *mask.shape[-2:])
    images = F.pad(images, (reach,) * 4, mode="reflect")
    images = F.conv2d(images, kernel.view(1, 1, 1, -1))
    return F.conv2d(images, kernel.view(1, 1, -1, 1)).view_as(mask)
