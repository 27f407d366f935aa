"""Channel scores from one forward and one backward pass, for all channels together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, is_alive, target_logit, unit_masks, upsample

HALF = 0.5
"""Where the score is linearised: the middle of the masks' range."""


@dataclass(frozen=True)
class MaskGradientScores:
    """First-order scores around the image at half its brightness: s(1/2) + <g, m_k - 1/2>.

    g is the gradient of the target's score with respect to a low-resolution mask, laid on the image
    as Score-CAM lays its own; m_k is the channel scaled to [0, 1].
    """

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        features = readout.features
        middle, gradient = _linearise(readout, quantity)
        offsets = unit_masks(features) - HALF
        scores = middle[:, None] + torch.einsum("nkhw,nhw->nk", offsets, gradient)
        return scores.masked_fill(~is_alive(features), -torch.inf)


def _linearise(readout: Readout, quantity: Quantity) -> tuple[Tensor, Tensor]:
    """Return the score at a mask of 1/2, (N,), and its gradient to that mask, (N, h, w)."""
    x, features = readout.x.detach(), readout.features
    with torch.enable_grad():
        mask = torch.full_like(features[:, 0], HALF).requires_grad_()
        scores = quantity(readout.model(x * upsample(mask, x)), readout.y)
        (gradient,) = torch.autograd.grad(scores.sum(), mask)
    return scores.detach(), gradient
