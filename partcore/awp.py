"""Adversarial weight perturbation (Wu et al., NeurIPS 2020, https://arxiv.org/abs/2004.05884)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from partcore.modes import uncounted

NORM_FLOOR = 1e-20


@contextmanager
def perturbed_weights(
    model: nn.Module, loss: Callable[[], Tensor], *, gamma: float
) -> Iterator[None]:
    """Move every weight matrix and kernel by ``gamma`` of its norm up ``loss``; move back exactly.

    loss: a scalar of the network as it stands. Vectors (biases, batch norm) stay where they are.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    with uncounted(model):
        gradients = torch.autograd.grad(loss(), weights)
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                scale = gamma * weight.norm() / (gradient.norm() + NORM_FLOOR)
                weight.add_(scale * gradient)
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
