"""PGD for evaluation (Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083)."""

from dataclasses import dataclass

from torch import Tensor

from partcore.attacks.attempt import Attempt, begin_at, climb
from partcore.attacks.project import LogitsOf, Loss
from partcore.objectives import cross_entropy


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Projected signed-gradient ascent on cross-entropy, keeping what broke an image."""

    step_size: float
    num_steps: int
    loss: Loss = cross_entropy

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        return climb(
            lambda _: self.loss,
            logits_of,
            begin_at(x, epsilon, start),
            x,
            y,
            epsilon,
            step_size=self.step_size,
            num_steps=self.num_steps,
        )
