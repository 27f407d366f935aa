"""Attacks that know PART: they read the network's own maps and place their radii by them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from partcore.attacks.attempt import Attempt, EvaluationAttack
from partcore.attacks.project import LogitsOf

Radii = Callable[[Tensor, Tensor, Tensor | float], Tensor]
"""Images (N, C, H, W), labels (N,) and epsilon to a radius a pixel, at most epsilon."""


@dataclass(frozen=True, kw_only=True)
class WithinRadii:
    """Another attack, inside radii that the images themselves decide."""

    attack: EvaluationAttack
    radii: Radii

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        return self.attack(logits_of, x, y, self.radii(x, y, epsilon), start)
