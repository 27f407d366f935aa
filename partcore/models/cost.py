"""What one forward pass costs."""

import torch

from partcore.models.classifier import CamClassifier, blank
from partcore.modes import evaluating


@torch.no_grad()
def flops(model: CamClassifier, channels: int, size: int) -> int:
    """Return the floating-point operations of one forward pass of one square image.

    A multiply-accumulate is two. Convolutions and matrix products count; batch norm, activations
    and pooling do not, as in the literature's numbers. Works on the ``meta`` device.
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(blank(model, channels, size))
    return int(counter.get_total_flops())


def multiply_accumulates(model: CamClassifier, channels: int, size: int) -> int:
    """Return half of :func:`flops`: what most papers print as FLOPs or MACs of a network."""
    return flops(model, channels, size) // 2
