"""The margin loss (Carlini & Wagner, 2017, https://arxiv.org/abs/1608.04644)."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, positive once the image is misclassified.

    logits: (N, classes); y: (N,). Returns (N,).
    """
    own = F.one_hot(y, logits.shape[1]).bool()
    other = logits.masked_fill(own, -torch.inf).amax(dim=1)
    return other - logits.gather(1, y[:, None])[:, 0]
