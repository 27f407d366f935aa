"""FGSM (Goodfellow et al., ICLR 2015, https://arxiv.org/abs/1412.6572)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.attacks.attempt import Attempt
from partcore.attacks.project import LogitsOf, Loss, input_gradient, step_linf
from partcore.objectives import cross_entropy


@dataclass(frozen=True)
class Fgsm:
    """One step of the whole radius, from the image itself."""

    loss: Loss = cross_entropy

    def __call__(
        self,
        logits_of: LogitsOf,
        x: Tensor,
        y: Tensor,
        epsilon: Tensor | float,
        start: Tensor,  # noqa: ARG002 - FGSM starts at the image
    ) -> Attempt:
        """See EvaluationAttack."""
        gradient, _ = input_gradient(self.loss, logits_of, x, y)
        x_adv = step_linf(x, gradient, x, epsilon, step_size=epsilon)
        with torch.no_grad():
            broken = logits_of(x_adv).argmax(dim=1) != y
        return Attempt(x_adv, broken, gradient.flatten(1).abs().amax(dim=1) == 0)
