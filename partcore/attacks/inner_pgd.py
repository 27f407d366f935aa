"""PGD in training (Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083): Alg. 1, 2."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from partcore.attacks.project import LogitsOf, Loss, input_gradient, project_linf, step_linf
from partcore.objectives import cross_entropy
from partcore.randomness import Randomness, normal, uniform

Start = Callable[[Tensor, Tensor | float, Randomness], Tensor]


def uniform_in_ball(x: Tensor, epsilon: Tensor | float, generator: Randomness) -> Tensor:
    """Return a uniform point of the ball around x, inside [0, 1]. x: (N, C, H, W)."""
    unit = uniform(x.shape, generator, x)
    return project_linf(x + (2 * unit - 1) * epsilon, x, epsilon)


def at_image(x: Tensor, epsilon: Tensor | float, generator: Randomness) -> Tensor:  # noqa: ARG001
    """Start at x itself."""
    return x


def gaussian(x: Tensor, epsilon: Tensor | float, generator: Randomness) -> Tensor:
    """Return x with normal noise of deviation 0.001, inside the ball (TRADES, MART)."""
    return project_linf(x + 0.001 * normal(x.shape, generator, x), x, epsilon)


@dataclass(frozen=True, kw_only=True)
class InnerPgd:
    """``num_steps`` projected signed-gradient steps; returns the last iterate."""

    step_size: float
    num_steps: int
    start: Start = uniform_in_ball
    loss: Loss = cross_entropy

    def __call__(
        self,
        logits_of: LogitsOf,
        x: Tensor,
        y: Tensor,
        epsilon: Tensor | float,
        *,
        generator: Randomness,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Return x_adv like x.

        x: (N, C, H, W) in [0, 1]; epsilon: broadcastable to x; reference: what the loss compares
        with, where that is not the label, (N, classes).
        """
        target = y if reference is None else reference
        return self.climb(logits_of, self.start(x, epsilon, generator), x, target, epsilon, y=y)

    def climb(
        self,
        logits_of: LogitsOf,
        x_adv: Tensor,
        x: Tensor,
        target: Tensor,
        epsilon: Tensor | float,
        *,
        y: Tensor,  # noqa: ARG002 - for those that look at success
    ) -> Tensor:
        """Go on from ``x_adv``."""
        for _ in range(self.num_steps):
            gradient, _ = input_gradient(self.loss, logits_of, x_adv, target)
            x_adv = step_linf(x_adv, gradient, x, epsilon, step_size=self.step_size)
        return x_adv.detach()
