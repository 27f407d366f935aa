"""How a channel's mask is scored: what Score-CAM's definitions and their estimators share.

A definition names the quantity it weighs channels by; an estimator (a ``Scores``) returns it for
every channel. Both quantities are unbounded, so that a mask acts on them about linearly, and
estimators may extrapolate and average them; a definition that needs a probability takes the
log-odds through a sigmoid, which gives exactly the softmax's value.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.cams.readout import Readout

MASK_FLOOR = 1e-8
"""grad-cam's guard in the min-max of masks."""

Quantity = Callable[[Tensor, Tensor], Tensor]
"""Logits (M, classes) and targets (M,) to what a mask is scored by, (M,)."""


class Scores(Protocol):
    """How a channel's mask is scored."""

    def __call__(self, readout: Readout, quantity: Quantity = ...) -> Tensor:
        """Return (N, K); minus infinity marks a channel that is zero on the image."""
        ...


def target_logit(logits: Tensor, y: Tensor) -> Tensor:
    """Return z_c, (M,). logits: (M, classes); y: (M,)."""
    return logits.gather(1, y[:, None])[:, 0]


def target_log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """Return z_c - log sum_(j != c) exp z_j, (M,), whose sigmoid is softmax(z)_c."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return target_logit(logits, y) - others.logsumexp(dim=1)


def unit_masks(masks: Tensor) -> Tensor:
    """Min-max of every (..., h, w) mask by itself; a constant mask is all 0."""
    shifted = masks - masks.amin(dim=(-2, -1), keepdim=True)
    return shifted / (shifted.amax(dim=(-2, -1), keepdim=True) + MASK_FLOOR)


def upsample(masks: Tensor, x: Tensor) -> Tensor:
    """Bring masks (M, h, w) to the size of images, (M, 1, H, W), as Score-CAM does."""
    return F.interpolate(masks[:, None], size=x.shape[-2:], mode="bilinear", align_corners=True)


def is_alive(features: Tensor) -> Tensor:
    """Return for each channel whether it is not zero all over the image, (N, K) bool."""
    return features.amax(dim=(2, 3)) > 0


@torch.no_grad()
def score_masks(
    readout: Readout, image: Tensor, masks: Tensor, quantity: Quantity, *, chunk: int
) -> Tensor:
    """Lay masks on images, each upsampled and min-maxed, and score them by the network.

    image: (M,), the index of each mask's image; masks: (M, h, w). Returns (M,). ``chunk`` masked
    images make a forward pass.
    """
    scores = masks.new_empty(len(masks))
    for part in torch.split(torch.arange(len(masks), device=masks.device), chunk):
        x, y = readout.x[image[part]], readout.y[image[part]]
        scores[part] = quantity(readout.model(x * unit_masks(upsample(masks[part], x))), y)
    return scores
