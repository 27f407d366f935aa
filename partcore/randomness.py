"""Named generators, all derived from one seed."""

import hashlib
from collections.abc import Mapping
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
