"""Early-stopped PGD: friendly adversarial training (Zhang et al., ICML 2020).

https://arxiv.org/abs/2002.11242, Algorithm 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.attacks.inner_pgd import InnerPgd
from partcore.attacks.project import LogitsOf, input_gradient, step_linf


@dataclass(frozen=True, kw_only=True)
class FriendlyPgd(InnerPgd):
    """PGD that leaves an image ``extra_steps`` steps after the network first misclassifies it.

    Images that are done cost no pass.
    """

    extra_steps: int

    def climb(
        self,
        logits_of: LogitsOf,
        x_adv: Tensor,
        x: Tensor,
        target: Tensor,
        epsilon: Tensor | float,
        *,
        y: Tensor,
    ) -> Tensor:
        """Go on from ``x_adv``."""
        radius = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device).expand_as(x)
        x_adv = x_adv.clone()
        left = torch.full_like(y, self.extra_steps)
        active = torch.arange(len(y), device=y.device)
        for _ in range(self.num_steps):
            gradient, logits = input_gradient(self.loss, logits_of, x_adv[active], target[active])
            fooled = logits.argmax(dim=1) != y[active]
            going = ~fooled | (left[active] > 0)
            left[active[fooled]] -= 1
            active, gradient = active[going], gradient[going]
            if not len(active):
                break
            x_adv[active] = step_linf(
                x_adv[active], gradient, x[active], radius[active], step_size=self.step_size
            )
        return x_adv.detach()
