"""Grad-CAM (Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391): Eq. 3 and 4."""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout, weighted_sum


@dataclass(frozen=True)
class GradCam:
    r"""L = ReLU(sum_k alpha_k A_k), alpha_k the mean over cells of dy_c/dA_k (Eq. 3, 4)."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w)."""
        alpha = readout.gradient().mean(dim=(2, 3))  # (N, K)
        return weighted_sum(alpha, readout.features)
