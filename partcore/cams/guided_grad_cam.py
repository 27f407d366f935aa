"""Guided Grad-CAM (Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391), for figures.

Guided backpropagation is Springenberg et al., 2015, https://arxiv.org/abs/1412.6806.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit
from torch.overrides import TorchFunctionMode

from partcore.cams.grad_cam import GradCam
from partcore.cams.readout import heatmap, read
from partcore.models.classifier import CamClassifier
from partcore.modes import evaluating, frozen

RELUS = frozenset({F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


def guided_grad_cam(model: CamClassifier, x: Tensor, y: Tensor) -> Tensor:
    """Return the guided gradient of z_c times the Grad-CAM heatmap, (N, C, H, W), signed.

    x: (N, C, H, W), in [0, 1]; y: (N,). The model's state is as it was afterwards.
    """
    with evaluating(model):
        raw = GradCam()(read(model, x, y))
    heat = heatmap(raw, (x.shape[2], x.shape[3]))
    return guided_gradient(model, x, y) * heat[:, None]


def guided_gradient(model: CamClassifier, x: Tensor, y: Tensor) -> Tensor:
    """Return dz_c/dx with only positive gradients let through every ReLU, (N, C, H, W)."""
    with evaluating(model), frozen(model), torch.enable_grad(), _GuidedRelu():
        leaf = x.detach().clone().requires_grad_()
        total = model(leaf).gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


class _GuidedRelu(TorchFunctionMode):
    """Makes every ReLU called under it, as a module or a function, a guided one.

    Nothing is put on the modules: the clamp lives in the graph of the one pass.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[Tensor, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call ``func``, or a guided ReLU in its place."""
        if func not in RELUS:
            return func(*args, **(kwargs or {}))
        output = torch.relu(args[0])
        if output.requires_grad:
            output.register_hook(_positive)  # type: ignore[no-untyped-call]
        return output


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)
