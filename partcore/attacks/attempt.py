"""What an evaluation attack returns, and the climb they share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from partcore.attacks.project import LINF, Ball, LogitsOf, Loss, input_gradient


@dataclass(frozen=True)
class Attempt:
    """What an attack did to a batch."""

    x_adv: Tensor
    """(N, C, H, W): what broke the image, or where the last try ended."""
    broken: Tensor
    """(N,) bool: misclassified at x_adv."""
    zero_gradient: Tensor
    """(N,) bool: the first input gradient was zero on every pixel."""
    other_passes: int = 0
    """Forward passes of an image through other networks than the one under attack."""


class EvaluationAttack(Protocol):
    """A frozen callable; ``start`` decides its randomness."""

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """Attack images that are classified correctly.

        x: (N, C, H, W) in [0, 1]; y: (N,); epsilon: broadcastable to x; start: noise like x, in
        [-1, 1], scaled by epsilon to the first point.
        """
        ...


def at(selected: Tensor, epsilon: Tensor | float) -> Tensor | float:
    """Return epsilon for a subset of the batch."""
    if isinstance(epsilon, Tensor) and epsilon.dim() == 4 and epsilon.shape[0] > 1:
        return epsilon[selected]
    return epsilon


def climb(  # noqa: PLR0913 - what a climb is
    loss_of: Callable[[Tensor], Loss],
    logits_of: LogitsOf,
    begin: Attempt,
    x: Tensor,
    y: Tensor,
    epsilon: Tensor | float,
    *,
    step_size: float,
    num_steps: int,
    ball: Ball = LINF,
) -> Attempt:
    """Steepest ascent on survivors; an image leaves at the first iterate that breaks it.

    So the best iterate is kept (the last may be classified correctly again), and time falls with
    the number of survivors. ``loss_of`` gives the loss of a subset of the batch, by index.
    """
    x_adv, broken, zero = begin.x_adv.clone(), begin.broken.clone(), begin.zero_gradient.clone()
    alive = (~broken).nonzero()[:, 0]
    for step in range(num_steps):
        if alive.numel() == 0:
            break
        gradient, logits = input_gradient(loss_of(alive), logits_of, x_adv[alive], y[alive])
        if step == 0:
            zero[alive] = gradient.flatten(1).abs().amax(dim=1) == 0
        fell = logits.argmax(dim=1) != y[alive]
        broken[alive[fell]] = True
        alive, gradient = alive[~fell], gradient[~fell]
        further = ball.step(x_adv[alive], gradient, step_size)
        x_adv[alive] = ball.project(further, x[alive], at(alive, epsilon))
    if alive.numel():
        with torch.no_grad():
            broken[alive] = logits_of(x_adv[alive]).argmax(dim=1) != y[alive]
    return Attempt(x_adv, broken, zero)


def begin_at(x: Tensor, epsilon: Tensor | float, start: Tensor, *, ball: Ball = LINF) -> Attempt:
    """Return an attempt that stands at its noise and has broken nothing yet."""
    none = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    return Attempt(ball.first(x, epsilon, start), none, none)


def restart(attempt: Attempt, x: Tensor, epsilon: Tensor | float, start: Tensor) -> Attempt:
    """Return the attempt with its survivors put back to a fresh first point."""
    again = LINF.first(x, epsilon, start)
    kept = attempt.broken[:, None, None, None]
    return replace(attempt, x_adv=torch.where(kept, attempt.x_adv, again))
