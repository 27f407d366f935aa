"""Eigen-CAM (Muhammad and Yeasin, IJCNN 2020, https://arxiv.org/abs/2008.00299)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from partcore.cams.readout import Readout


@dataclass(frozen=True)
class EigenCam:
    """L = ReLU(A v), v the first right singular vector of the centred features, (h w, K).

    It knows no class. The sign of v is arbitrary, and grad-cam, which is followed here, keeps the
    one that numpy's LAPACK returns; torch's LAPACK and GPUs return others, so the decomposition
    runs in numpy on the CPU whatever the device.
    """

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w)."""
        wide = torch.promote_types(readout.features.dtype, torch.float32)
        features = readout.features.to(wide).nan_to_num(0.0, 0.0, 0.0)
        cells = features.flatten(2).mT  # (N, h w, K)
        centred = cells - cells.mean(dim=1, keepdim=True)
        first = np.linalg.svd(centred.cpu().numpy(), full_matrices=False).Vh[:, 0]  # (N, K)
        direction = torch.from_numpy(first).to(features.device)
        projection = torch.einsum("ndk,nk->nd", centred, direction)
        return projection.view(len(features), *features.shape[2:]).relu()
