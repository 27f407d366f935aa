"""Adversarial weight perturbation (Wu et al., NeurIPS 2020, https://arxiv.org/abs/2004.05884)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from partcore.modes import uncounted

NORM_FLOOR = 1e-20


@contextmanager
def perturbed_weights(
    model: nn.Module, backward: Callable[[], object], *, gamma: float
) -> Iterator[None]:
    """Move every weight matrix and kernel by ``gamma`` of its norm up a loss; move back exactly.

    backward: leaves the loss's gradient in the weights, where there is none yet. Vectors (biases,
    batch norm) stay where they are.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    with uncounted(model):
        backward()
    gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
    model.zero_grad(set_to_none=True)
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
