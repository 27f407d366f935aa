"""PGD for evaluation (Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from partcore.attacks.aim import TargetedLoss, likeliest, towards
from partcore.attacks.attempt import Attempt, begin_at, climb
from partcore.attacks.project import LINF, Ball, LogitsOf, Loss
from partcore.objectives import cross_entropy


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Projected steepest ascent, by default on cross-entropy, keeping what broke an image."""

    step_size: float
    num_steps: int
    loss: Loss = cross_entropy
    targeted: TargetedLoss | None = None
    """Loss to climb instead, towards the ``rank``-th likeliest wrong class."""
    rank: int = 0
    ball: Ball = LINF

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack. Raises ValueError without a wrong class of that rank."""
        return climb(
            self._losses(logits_of, x, y),
            logits_of,
            begin_at(x, epsilon, start, ball=self.ball),
            x,
            y,
            epsilon,
            step_size=self.step_size,
            num_steps=self.num_steps,
            ball=self.ball,
        )

    def _losses(self, logits_of: LogitsOf, x: Tensor, y: Tensor) -> Callable[[Tensor], Loss]:
        if self.targeted is None:
            return lambda _: self.loss
        return towards(self.targeted, likeliest(logits_of, x, y, self.rank))
