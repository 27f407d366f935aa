"""Any other map of the grad-cam package (https://github.com/jacobgil/pytorch-grad-cam)."""

import contextlib
import io
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from partcore.cams.readout import Readout

PackageName = Literal[
    "AblationCAM",
    "EigenGradCAM",
    "FEM",
    "FullGrad",
    "GradCAMElementWise",
    "KPCA_CAM",
    "SegEigenCAM",
    "ShapleyCAM",
]
"""Classes of pytorch_grad_cam that have no form of ours. RandomCAM is random, FinerCAM chooses its
own targets, RefineCAM and SESS are built around another map."""
PACKAGE_NAMES: tuple[PackageName, ...] = get_args(PackageName)


@dataclass(frozen=True)
class PackageCam:
    """A map computed by the package itself. SLOW: for figures and comparisons, not for training.

    It copies the network at every call, since the package zeroes gradients, switches modes and
    swaps layers; it runs the network again and does not use the readout's features; AblationCAM
    costs a forward pass a channel and image. Raises ValueError for a name not on the list.
    """

    name: PackageName

    def __post_init__(self) -> None:
        if self.name not in PACKAGE_NAMES:
            raise ValueError(f"no map '{self.name}' here; there are {', '.join(PACKAGE_NAMES)}")

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1], which ``heatmap`` leaves as it is."""
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        model = deepcopy(readout.model).float()
        # FullGrad looks for its layers itself.
        layers = [] if self.name == "FullGrad" else [model.body]
        targets = [ClassifierOutputTarget(c) for c in readout.y.tolist()]
        x = readout.x.detach().float().clone().requires_grad_()
        cam = getattr(pytorch_grad_cam, self.name)(model=model, target_layers=layers)
        with torch.enable_grad(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            maps = cam(input_tensor=x, targets=targets)
        return torch.from_numpy(maps).to(readout.x).nan_to_num(0.0)
