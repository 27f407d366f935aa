"""An exponential moving average of weights and batch-norm statistics."""

import copy

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """min(d, (1 + t) / (10 + t)): a short run is not held back by its first weights."""
    return min(decay, (1 + step) / (10 + step))


class Average:
    """A network whose weights follow another's."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)  # noqa: FBT003

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after optimiser step ``step`` (from 0); counters are copied."""
        weight = 1 - decay_at(step, self.decay)
        theirs = model.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], weight)
            else:
                mine.copy_(theirs[name])
