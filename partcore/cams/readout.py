"""What every map is computed from, and how a map is brought to the image."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.models.classifier import CamClassifier, PooledLinear

RANGE_FLOOR = 1e-7
"""grad-cam's guard in the min-max of maps (``scale_cam_image``)."""
CONSTANT_BELOW = 1e-6
"""A normalised map whose range is under this has no hot pixel to speak of."""


@dataclass(frozen=True)
class Readout:
    """One forward pass of a network, in evaluation mode, read for its maps."""

    model: CamClassifier
    x: Tensor
    """(N, C, H, W), in [0, 1]."""
    features: Tensor
    """A: (N, K, h, w), after the last ReLU, detached."""
    y: Tensor
    """Target classes c, (N,)."""

    def gradient(self) -> Tensor:
        """dy_c/dA of the raw target logit, broadcastable to (N, K, h, w).

        For a pooled linear head it is w_kc / (h w) everywhere and is returned as (N, K, 1, 1); for
        any other head autograd goes through the head alone.
        """
        head = self.model.head
        if isinstance(head, PooledLinear):
            cells = self.features.shape[2] * self.features.shape[3]
            return (head.linear.weight.detach()[self.y] / cells)[:, :, None, None]
        return head_gradient(self)


class Cam(Protocol):
    """A class activation map."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return the raw map, (N, h, w), non-negative."""
        ...


@torch.no_grad()
def read(model: CamClassifier, x: Tensor, y: Tensor) -> Readout:
    """Run the network once. The caller sees to evaluation mode."""
    return Readout(model, x, model.features(x), y)


def head_gradient(readout: Readout) -> Tensor:
    """dy_c/dA by autograd through the head, (N, K, h, w)."""
    with torch.enable_grad():
        features = readout.features.detach().requires_grad_()
        logits = readout.model.head(features)
        total = logits.gather(1, readout.y[:, None]).sum()
        (gradient,) = torch.autograd.grad(total, features)
    return gradient


def weighted_sum(weights: Tensor, features: Tensor) -> Tensor:
    """ReLU(sum_k w_k A_k). weights: (N, K); features: (N, K, h, w). Returns (N, h, w)."""
    return torch.einsum("nk,nkhw->nhw", weights, features).relu()


def heatmap(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring raw maps (N, h, w) to (N, H, W) in [0, 1], as grad-cam 1.5 does.

    Per image: min-max, bilinear (``align_corners=False``), min-max again. A constant map is all 0.
    """
    small = _min_max(raw)
    large = F.interpolate(small[:, None], size=size, mode="bilinear", align_corners=False)
    return _min_max(large[:, 0])


def _min_max(maps: Tensor) -> Tensor:
    shifted = maps - maps.amin(dim=(1, 2), keepdim=True)
    return shifted / (RANGE_FLOOR + shifted.amax(dim=(1, 2), keepdim=True))


def is_constant(maps: Tensor) -> Tensor:
    """Return for each heatmap (N, H, W) whether it has no range: (N,) bool."""
    return maps.amax(dim=(1, 2)) - maps.amin(dim=(1, 2)) < CONSTANT_BELOW
