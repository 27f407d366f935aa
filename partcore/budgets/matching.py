"""Two masks that spend the same mean radius."""

import torch
from torch import Tensor


def with_mean(mask: Tensor, mean: Tensor | float) -> Tensor:
    """Bring the mean over each image to ``mean``; order is kept, and so is the range [0, 1].

    A mask whose mean is too high is scaled down, one whose mean is too low is scaled towards 1:
    the map between masks is linear, increasing, and exact.

    mask: (N, ...) in [0, 1]; mean: in [0, 1], broadcastable to (N, 1, ...).
    """
    present = mask.flatten(1).mean(dim=1).view(-1, *(1,) * (mask.ndim - 1))
    wanted = torch.as_tensor(mean, dtype=mask.dtype, device=mask.device).expand_as(present)
    down = mask * (wanted / present.clamp(min=torch.finfo(mask.dtype).tiny))
    up = 1 - (1 - mask) * ((1 - wanted) / (1 - present).clamp(min=torch.finfo(mask.dtype).tiny))
    return torch.where(present > wanted, down, up).clamp(0, 1)
