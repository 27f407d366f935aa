"""Divergence between predictions."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(reference || softmax(logits)), per sample.

    logits, reference: (N, classes); reference: probabilities. Returns (N,).
    """
    return F.kl_div(logits.log_softmax(dim=1), reference, reduction="none").sum(dim=1)
