"""Cross-entropy, per sample."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """logits: (N, classes); y: (N,). Returns (N,)."""
    return F.cross_entropy(logits, y, reduction="none")
