"""Uniform noise: the attack that knows nothing. No other should break fewer images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.attacks.attempt import Attempt, begin_at
from partcore.attacks.project import LogitsOf


@dataclass(frozen=True)
class Noise:
    """One uniform draw from the ball."""

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        attempt = begin_at(x, epsilon, start)
        with torch.no_grad():
            broken = logits_of(attempt.x_adv).argmax(dim=1) != y
        return Attempt(attempt.x_adv, broken, attempt.zero_gradient)
