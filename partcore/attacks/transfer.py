"""Transfer (Papernot et al., 2016, https://arxiv.org/abs/1605.07277): another network's images.

The attack never asks the network under test for a gradient, so it is a black box to it: what falls
here and to no gradient attack was masked from those.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.attacks.attempt import Attempt, begin_at
from partcore.attacks.project import LINF, LogitsOf, input_gradient
from partcore.objectives import cross_entropy


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """PGD on the cross-entropy of ``surrogate``, whose last iterate the other network is shown.

    An image that fools the surrogate climbs on: the surer that is, the likelier it transfers.
    Only the last iterate is judged, so the network under test is asked once an image.
    """

    surrogate: LogitsOf
    step_size: float
    num_steps: int

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        begin = begin_at(x, epsilon, start)
        x_adv, zero = begin.x_adv, begin.zero_gradient
        for step in range(self.num_steps):
            gradient, _ = input_gradient(cross_entropy, self.surrogate, x_adv, y)
            if step == 0:
                zero = gradient.flatten(1).abs().amax(dim=1) == 0
            x_adv = LINF.project(LINF.step(x_adv, gradient, self.step_size), x, epsilon)
        with torch.no_grad():
            broken = logits_of(x_adv).argmax(dim=1) != y
        return Attempt(x_adv, broken, zero, other_passes=self.num_steps * len(x))
