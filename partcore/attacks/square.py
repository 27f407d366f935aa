"""Square Attack (Andriushchenko et al., ECCV 2020, https://arxiv.org/abs/1912.00049), l-infinity.

Random search over squares of one colour; it sees logits, never a gradient. Where and of which
colours the squares are is drawn once a query for the whole batch, from the attack's own seed, so
no outcome depends on the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.attacks.attempt import Attempt, at
from partcore.attacks.project import LogitsOf, project_linf
from partcore.objectives import margin
from partcore.randomness import generator

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of pixels in a square is halved, of 10,000."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square Attack on the margin."""

    seed: int
    queries: int = 5000
    share: float = 0.8
    """p: share of the pixels in the first squares."""
    rescale: bool = False
    """Stretch the schedule to ``queries``; AutoAttack does not."""

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack. ``start``'s first row gives the first vertical stripes."""
        draw = generator(self.seed, "square")
        stripes = torch.where(start[:, :, :1] < 0, -1.0, 1.0)
        x_adv = project_linf(x + epsilon * stripes, x, epsilon)
        lead = _leads(logits_of, x_adv, y)
        for query in range(self.queries):
            alive = (lead <= 0).nonzero()[:, 0]
            if alive.numel() == 0:
                break
            square = self._square(x.shape, query, draw).to(x.device)
            radius = at(alive, epsilon)
            tried = project_linf(x_adv[alive] + 2 * radius * square, x[alive], radius)
            found = _leads(logits_of, tried, y[alive])
            better = found > lead[alive]
            x_adv[alive[better]], lead[alive[better]] = tried[better], found[better]
        return Attempt(x_adv, lead > 0, torch.zeros_like(lead, dtype=torch.bool))

    def _square(self, shape: torch.Size, query: int, draw: torch.Generator) -> Tensor:
        """Return a square of -1 or 1 a channel, 0 elsewhere, (C, H, W)."""
        channels, height, width = shape[1:]
        side = self._side(query, height, width)
        top = int(torch.rand((), generator=draw) * (height - side))
        left = int(torch.rand((), generator=draw) * (width - side))
        colour = torch.where(torch.rand(channels, 1, 1, generator=draw) < 0.5, -1.0, 1.0)
        square = torch.zeros(channels, height, width)
        square[:, top : top + side, left : left + side] = colour
        return square

    def _side(self, query: int, height: int, width: int) -> int:
        at_query = int(query / self.queries * 10_000) if self.rescale else query
        share = self.share / 2 ** sum(at_query > after for after in HALVINGS)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)


@torch.no_grad()
def _leads(logits_of: LogitsOf, x: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, positive once misclassified, (N,)."""
    return margin(logits_of(x), y)
