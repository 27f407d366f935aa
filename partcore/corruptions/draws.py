"""Random numbers of corruptions: each sample draws its own."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from partcore.randomness import generator


@dataclass(frozen=True)
class Draws:
    """A CPU generator for each sample of a batch, so that no sample depends on its neighbours.

    Numbers are drawn on the CPU; a kernel moves them, so a seed means the same anywhere.
    """

    generators: tuple[Generator, ...]

    @classmethod
    def of(cls, seed: int, *names: str | int, ids: Iterable[int]) -> "Draws":
        """Return fresh draws that depend on the seed, the names and each sample's id."""
        return cls(tuple(generator(seed, *names, one) for one in ids))

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, (N, *shape)."""
        return torch.stack([torch.randn(shape, generator=own) for own in self.generators])

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return numbers in [low, high), (N, *shape)."""
        drawn = torch.stack([torch.rand(shape, generator=own) for own in self.generators])
        return low + (high - low) * drawn

    def poisson(self, rate: Tensor) -> Tensor:
        """Return counts, (N, ...), of means ``rate``, (N, ...)."""
        pairs = zip(rate.cpu(), self.generators, strict=True)
        return torch.stack([torch.poisson(mean, generator=own) for mean, own in pairs])
