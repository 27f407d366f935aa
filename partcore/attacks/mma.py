"""The minimum-margin attack in the form of PART's code (Zhang et al., ICML 2024).

Gao et al.'s attack (ICML 2022) uses APGD; PART's uses fixed steps. Deviation from PART's code: an
image leaves at the first iterate that breaks it, where the code judges the last iterate alone.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.attacks.attempt import Attempt, begin_at, climb, restart
from partcore.attacks.project import LogitsOf, Loss

OFFSET = 50.0
"""Keeps the hinge open: the gradient ends only once the target leads by 50."""


@dataclass(frozen=True, kw_only=True)
class Mma:
    """Attack the ``targets`` likeliest wrong classes in turn, survivors only.

    For target t it climbs -max(z_y - z_t + 50, 0).
    """

    step_size: float
    num_steps: int
    targets: int = 3

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack. Raises ValueError with fewer wrong classes than targets."""
        with torch.no_grad():
            logits = logits_of(x)
        if self.targets >= logits.shape[1]:
            raise ValueError(f"{self.targets} targets need {self.targets + 1} classes")
        own = F.one_hot(y, logits.shape[1]).bool()
        likeliest = logits.masked_fill(own, -torch.inf).topk(self.targets, dim=1).indices
        attempt = begin_at(x, epsilon, start)
        for rank in range(self.targets):
            attempt = climb(
                partial(_towards, likeliest[:, rank]),
                logits_of,
                restart(attempt, x, epsilon, start),
                x,
                y,
                epsilon,
                step_size=self.step_size,
                num_steps=self.num_steps,
            )
        return attempt


def _towards(target: Tensor, selected: Tensor) -> Loss:
    """Return the loss of a subset: -max(z_y - z_t + 50, 0), t from ``target`` (N,)."""
    aim = target[selected]

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        own = logits.gather(1, y[:, None])[:, 0]
        other = logits.gather(1, aim[:, None])[:, 0]
        return -(own - other + OFFSET).clamp(min=0)

    return loss
