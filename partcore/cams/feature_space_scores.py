"""Channel scores without a pass: the masks are laid on the features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, is_alive, target_logit, unit_masks
from partcore.models.classifier import PooledLinear


@dataclass(frozen=True)
class FeatureSpaceScores:
    """An approximation that costs no pass: the mask is laid on the features, not on the image.

    For a pooled linear head the logit c of mask m is mean_ij(m_ij sum_l w_lc A_l,ij) + b_c. The
    mean over images of the correlation of the ensemble map with the exact one was measured at 0.978
    to 0.991 on CIFAR-10 ResNet-18s.
    """

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K). Raises TypeError unless the head is a PooledLinear."""
        head = readout.model.head
        if not isinstance(head, PooledLinear):
            raise TypeError("feature-space scores need a pooled linear head; use exact scores")
        features = readout.features
        linear = head.linear
        evidence = torch.einsum("ck,nkhw->nchw", linear.weight.detach(), features)
        cells = features.shape[2] * features.shape[3]
        logits = torch.einsum("nkhw,nchw->nkc", unit_masks(features), evidence) / cells
        logits = (logits + linear.bias.detach()).flatten(0, 1)  # (N K, classes)
        targets = readout.y.repeat_interleave(features.shape[1])
        scores = quantity(logits, targets).view(features.shape[:2])
        return scores.masked_fill(~is_alive(features), -torch.inf)
