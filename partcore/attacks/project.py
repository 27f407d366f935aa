"""The geometry of l-infinity attacks, a radius a pixel."""

from collections.abc import Callable

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
