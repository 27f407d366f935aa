"""XGrad-CAM (Fu et al., BMVC 2020, https://arxiv.org/abs/2008.02312)."""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum

TOTAL_FLOOR = 1e-7
"""grad-cam's guard in the share of a cell."""


@dataclass(frozen=True)
class XGradCam:
    """L = ReLU(sum_k w_k A_k), w_k = sum_ij dy_c/dA_k,ij A_k,ij / sum_ab A_k,ab."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w)."""
        features = readout.features
        total = features.sum(dim=(2, 3), keepdim=True)  # (N, K, 1, 1)
        share = features / (total + TOTAL_FLOOR)
        weights = (readout.gradient() * share).sum(dim=(2, 3))  # (N, K)
        return weighted_sum(weights, features)
