"""A network's twin for attacks: batch norm folded into convolutions, in a type of choice.

In evaluation mode batch norm is affine, so a convolution before it can do its work. The twin is
built once and takes the network's weights before each attack; normalisation and head are the
network's own, in float32.
"""

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, fx, nn

from partcore.models import CamClassifier
from partcore.modes import evaluating

HALF_SCALE = 1024.0
"""Gradients are this much larger inside a float16 body, or small ones would vanish."""


class Narrow(nn.Module):
    """A body run in another type; images come, and features leave, in float32."""

    def __init__(self, body: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.body = body
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, K, h, w)."""
        if self.dtype == torch.float16 and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda gradient: gradient / HALF_SCALE)  # type: ignore[no-untyped-call]
        features: Tensor = self.body(x.to(self.dtype)).float()
        if self.dtype == torch.float16 and features.requires_grad:
            features.register_hook(lambda gradient: gradient * HALF_SCALE)  # type: ignore[no-untyped-call]
        return features


class Twin:
    """``network`` computes what ``model`` does in evaluation mode, after each :meth:`refresh`.

    The model is to be on its device already.
    """

    def __init__(
        self, model: CamClassifier, dtype: torch.dtype, *, with_folding: bool = True
    ) -> None:
        self.model = model
        with evaluating(model):
            traced = fx.symbolic_trace(copy.deepcopy(model.body))
        self.pairs = dict(fold(traced)) if with_folding else {}
        body = traced.eval().to(dtype).requires_grad_(False)  # noqa: FBT003 - PyTorch's own
        self.body = body
        as_wide = dtype.itemsize >= torch.float32.itemsize
        self.network = CamClassifier(
            model.normalise, body if as_wide else Narrow(body, dtype), model.head
        )
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the model's weights and batch statistics as they are now."""
        theirs = dict(self.model.body.state_dict())
        for convolution, norm in self.pairs.items():
            bn = cast("nn.BatchNorm2d", self.model.body.get_submodule(norm))
            scale, shift = affine(bn)
            bias = theirs.get(f"{convolution}.bias")
            theirs[f"{convolution}.weight"] = (
                theirs[f"{convolution}.weight"] * scale[:, None, None, None]
            )
            theirs[f"{convolution}.bias"] = shift if bias is None else shift + scale * bias
        for name, mine in self.body.state_dict().items():
            mine.copy_(theirs[name])


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (scale, shift) of a batch norm in evaluation mode, (K,) each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def fold(traced: fx.GraphModule) -> Iterator[tuple[str, str]]:
    """Drop every batch norm that alone reads a convolution; yield (convolution, batch norm)."""
    for node in list(traced.graph.nodes):
        pair = _pair(traced, node)
        if pair is None:
            continue
        convolution, before = pair
        if convolution.bias is None:
            convolution.bias = nn.Parameter(convolution.weight.new_zeros(convolution.out_channels))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        yield str(before.target), str(node.target)
    traced.delete_all_unused_submodules()
    traced.recompile()


def _pair(traced: fx.GraphModule, node: fx.Node) -> tuple[nn.Conv2d, fx.Node] | None:
    """Return the convolution that ``node``, a batch norm, alone reads."""
    if node.op != "call_module" or not isinstance(
        traced.get_submodule(str(node.target)), nn.BatchNorm2d
    ):
        return None
    (before,) = node.all_input_nodes
    if before.op != "call_module" or len(before.users) > 1:
        return None
    convolution = traced.get_submodule(str(before.target))
    return (convolution, before) if isinstance(convolution, nn.Conv2d) else None
