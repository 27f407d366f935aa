"""Several processes that train one network, each on its share of every batch.

Every rank holds the whole state and draws every random number of the whole batch, so that what a
sample meets does not depend on how many ranks there are. Batch norm's statistics are each rank's
own in the update; afterwards all take those of rank 0. Rank 0 alone validates, writes and tells.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others, who may be validating."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Read what torchrun, or our own launcher, sets: RANK and WORLD_SIZE."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Whether this one validates, writes and tells."""
        return self.rank == 0

    def device(self, kind: str) -> str:
        """Return this rank's device: its own of the visible GPUs, or what ``kind`` names."""
        return f"cuda:{self.rank}" if kind == "cuda" else kind

    @contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Meet the other ranks (env://), and part in the end; alone, do nothing."""
        if self.size == 1:
            yield
            return
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def share(self, count: int) -> slice:
        """Return which of ``count`` samples are this rank's: near equal, in order."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Add every rank's tensors up, in place, as one message a type."""
        if self.size > 1:
            for group in _by_type(tensors):
                flat = torch.cat([tensor.flatten() for tensor in group])
                dist.all_reduce(flat)
                _spread(flat, group)

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Take rank 0's tensors, in place."""
        if self.size > 1:
            for group in _by_type(tensors):
                flat = torch.cat([tensor.flatten() for tensor in group])
                dist.broadcast(flat, src=0)
                _spread(flat, group)


ALONE = Ranks()
"""One process."""


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


@torch.no_grad()
def _spread(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for part, tensor in zip(parts, tensors, strict=True):
        tensor.copy_(part.view(tensor.shape))
