"""Named generators, all derived from one seed."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on ``seed`` and every name, and on nothing else."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> Generator:
    """Return a CPU generator with a derived seed."""
    return Generator().manual_seed(derive(seed, *names))


@dataclass(frozen=True)
class Share:
    """Some samples' part of what is drawn for a whole batch.

    However a batch is divided, each sample meets the numbers it would have met undivided.
    """

    generator: Generator
    part: slice
    """Which of the batch's samples."""
    whole: int
    """Samples of the batch."""


Randomness = Generator | Share


def uniform(shape: torch.Size, randomness: Randomness, like: Tensor) -> Tensor:
    """Return numbers in [0, 1) of ``shape``, its first axis the samples, typed and placed as like.

    They are drawn where the generator lives and moved, so a seed means the same anywhere.
    """
    return _drawn(torch.rand, shape, randomness, like)


def normal(shape: torch.Size, randomness: Randomness, like: Tensor) -> Tensor:
    """Return standard normal numbers; otherwise as :func:`uniform`."""
    return _drawn(torch.randn, shape, randomness, like)


def _drawn(
    draw: Callable[..., Tensor], shape: torch.Size, randomness: Randomness, like: Tensor
) -> Tensor:
    if isinstance(randomness, Generator):
        place = randomness.device
        return draw(shape, generator=randomness, dtype=like.dtype, device=place).to(like.device)
    whole = torch.Size((randomness.whole, *shape[1:]))
    return _drawn(draw, whole, randomness.generator, like)[randomness.part]


@dataclass(frozen=True)
class Streams:
    """The generators that advance while a run trains; their states are part of a checkpoint."""

    augment: Generator
    attack: Generator

    @classmethod
    def of(cls, seed: int) -> "Streams":
        """Return fresh streams of a run's seed."""
        return cls(*(generator(seed, field.name) for field in fields(cls)))

    def state(self) -> dict[str, Tensor]:
        """Return every generator's state, uint8."""
        return {field.name: getattr(self, field.name).get_state() for field in fields(self)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state`` was taken. Raises KeyError when a stream is missing."""
        for field in fields(self):
            getattr(self, field.name).set_state(state[field.name])


def epoch_order(count: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order of ``count`` samples in an epoch: (count,), a function of seed and epoch."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))
