"""FAB (Croce & Hein, ICML 2020, https://arxiv.org/abs/1907.02044), by the authors' own code.

It looks for the nearest point across a boundary; what it finds outside the ball is brought back.
"""

from dataclasses import dataclass

import torch
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor

from partcore.attacks.attempt import Attempt
from partcore.attacks.project import LogitsOf, project_linf


@dataclass(frozen=True, kw_only=True)
class Fab:
    """FAB towards the ``rank``-th likeliest wrong class, or towards all of them at once."""

    seed: int
    num_steps: int = 100
    rank: int | None = None
    """None: untargeted, which takes a gradient a class and step."""
    from_noise: bool = False
    """Begin away from the image: the second and later tries of the untargeted form."""

    def __call__(
        self,
        logits_of: LogitsOf,
        x: Tensor,
        y: Tensor,
        epsilon: Tensor | float,
        start: Tensor,  # noqa: ARG002 - FAB begins at the image, or draws its own
    ) -> Attempt:
        """See EvaluationAttack. epsilon: a number; FAB knows no radius a pixel."""
        if isinstance(epsilon, Tensor):
            raise TypeError("FAB takes one radius for all pixels")
        attack = FABAttack_PT(
            logits_of,
            norm="Linf",
            n_iter=self.num_steps,
            eps=epsilon,
            targeted=self.rank is not None,
            device=x.device,
        )
        if self.rank is not None:
            attack.target_class = self.rank + 2
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            found = attack.attack_single_run(
                x, y, use_rand_start=self.from_noise, is_targeted=self.rank is not None
            )
        x_adv = project_linf(found, x, epsilon)
        with torch.no_grad():
            broken = logits_of(x_adv).argmax(dim=1) != y
        return Attempt(x_adv, broken, torch.zeros_like(broken))
