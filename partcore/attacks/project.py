"""The geometry of attacks: l-infinity with a radius a pixel, and l2 with a radius an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LogitsOf = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) in [0, 1] to logits (N, classes)."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, classes) and labels (N,) to a loss each, (N,)."""


def project_linf(x_adv: Tensor, x: Tensor, epsilon: Tensor | float) -> Tensor:
    """Bring ``x_adv`` into the ball around ``x`` and into [0, 1].

    x_adv, x: (N, C, H, W), in [0, 1] units. epsilon: broadcastable to x, e.g. (N, 1, H, W).
    """
    return torch.clamp(torch.minimum(torch.maximum(x_adv, x - epsilon), x + epsilon), 0.0, 1.0)


def step_linf(
    x_adv: Tensor,
    gradient: Tensor,
    x: Tensor,
    epsilon: Tensor | float,
    *,
    step_size: Tensor | float,
) -> Tensor:
    """One step of signed-gradient ascent, projected."""
    return project_linf(x_adv + step_size * gradient.sign(), x, epsilon)


def input_gradient(loss: Loss, logits_of: LogitsOf, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of each sample's loss to its pixels, (N, C, H, W), and the logits.

    The caller freezes the weights; their gradients are never computed.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = logits_of(leaf)
        (gradient,) = torch.autograd.grad(loss(logits, y).sum(), leaf)
    return gradient, logits.detach()


def length(delta: Tensor) -> Tensor:
    """Return the l2 norm of each image, (N, 1, 1, 1). delta: (N, C, H, W)."""
    norms: Tensor = delta.flatten(1).norm(dim=1)
    return norms[:, None, None, None]


class Ball(Protocol):
    """A norm: how to stay in its ball, and how to climb in it."""

    def project(self, x_adv: Tensor, x: Tensor, epsilon: Tensor | float) -> Tensor:
        """Bring ``x_adv`` into the ball around ``x`` and into [0, 1]."""
        ...

    def step(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Go ``step_size`` far in the direction of steepest ascent."""
        ...

    def first(self, x: Tensor, epsilon: Tensor | float, start: Tensor) -> Tensor:
        """Return a point of the ball. start: noise like x, in [-1, 1]."""
        ...

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return how far each image is from its original, (N,)."""
        ...


@dataclass(frozen=True)
class Linf:
    """The cube."""

    def project(self, x_adv: Tensor, x: Tensor, epsilon: Tensor | float) -> Tensor:
        """See Ball."""
        return project_linf(x_adv, x, epsilon)

    def step(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """See Ball."""
        return x_adv + step_size * gradient.sign()

    def first(self, x: Tensor, epsilon: Tensor | float, start: Tensor) -> Tensor:
        """See Ball."""
        return project_linf(x + epsilon * start, x, epsilon)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """See Ball."""
        return (x_adv - x).abs().flatten(1).amax(dim=1)


@dataclass(frozen=True)
class L2:
    """The sphere. The box [0, 1] holds the centre, so clamping to it never leaves the ball."""

    def project(self, x_adv: Tensor, x: Tensor, epsilon: Tensor | float) -> Tensor:
        """See Ball."""
        delta = x_adv - x
        return torch.clamp(x + delta * (epsilon / (length(delta) + 1e-12)).clamp(max=1), 0.0, 1.0)

    def step(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """See Ball."""
        return x_adv + step_size * gradient / (length(gradient) + 1e-12)

    def first(self, x: Tensor, epsilon: Tensor | float, start: Tensor) -> Tensor:
        """See Ball. On the sphere, in the direction of the noise."""
        return self.project(x + epsilon * start / (length(start) + 1e-12), x, epsilon)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """See Ball."""
        return length(x_adv - x)[:, 0, 0, 0]


LINF, L2_BALL = Linf(), L2()
