"""CAM (Zhou et al., CVPR 2016, https://arxiv.org/abs/1512.04150)."""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum
from partcore.models.classifier import PooledLinear


@dataclass(frozen=True)
class ClassActivation:
    """L = ReLU(sum_k w_kc A_k), w_c the head's weights of the target: Grad-CAM times h w."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w). Raises TypeError unless the head is a PooledLinear."""
        head = readout.model.head
        if not isinstance(head, PooledLinear):
            raise TypeError("CAM is defined for a pooled linear head; use Grad-CAM for any other")
        return weighted_sum(head.linear.weight.detach()[readout.y], readout.features)
