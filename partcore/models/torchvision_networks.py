"""torchvision's classifiers, as far as they end in global average pooling and a linear layer.

Which do is read off the traced graph, not off a list. Their stems are those for photographs of 224
pixels: most have a stride of 32, so a map of a 32x32 image has a single cell, and from about 128
pixels on one is worth computing. Auxiliary classifiers (GoogLeNet, Inception) are left out.

EfficientNets end in a SiLU: their features reach down to -0.28, so that a channel's mean may be
negative, which CAM papers do not foresee. Dropout and stochastic depth draw from PyTorch's global
generator while training: see :func:`draws_in_training`.
"""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit
from torch.overrides import TorchFunctionMode

from partcore.models.classifier import (
    INITIALISED,
    Builder,
    CamClassifier,
    ModelUnfit,
    Normalise,
    PooledLinear,
    assemble,
    grid_size,
    parameter_count,
)

LOWEST: Mapping[object, float] = {
    nn.ReLU: 0.0,
    nn.ReLU6: 0.0,
    F.relu: 0.0,
    F.relu6: 0.0,
    torch.relu: 0.0,
    nn.SiLU: -0.278465,
    F.silu: -0.278465,
    nn.Hardswish: -0.375,
    F.hardswish: -0.375,
}
"""The least value of every activation that may end a body."""
POOLINGS = (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, "mean")
BETWEEN = (nn.Flatten, nn.Dropout, torch.flatten, "flatten")
"""What may stand between the pooling and the linear layer."""


def torchvision_classifier(name: str) -> Builder:
    """Return the builder of torchvision's ``name``, say ``resnet50``.

    Raises ModelUnfit, also when built, with what is in the way.
    """
    if name not in names():
        raise ModelUnfit(name, "torchvision has no classifier of that name")

    def build(
        *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
    ) -> CamClassifier:
        cut, body = _weightless(name, channels)
        return assemble(
            _materialised(body),
            width=cut.linear.in_features,
            classes=classes,
            mean=mean,
            std=std,
            generator=generator,
            dropout=cut.dropout,
        )

    return build


def names() -> list[str]:
    """Return every classifier torchvision has, whether it fits or not."""
    from torchvision import models

    return [str(name) for name in models.list_models(module=models)]


def _weightless(name: str, channels: int) -> tuple["Cut", nn.Module]:
    """Return a network without memory for weights: torchvision's own draws would be lost anyhow."""
    with _Weightless():
        cut = cut_at_pooling(name, _network(name))
        return cut, cut.body(channels)


class _Weightless(TorchFunctionMode):
    """Makes weights without memory. ``torch.device("meta")`` also makes RegNet's arithmetic so."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        placed = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **placed})


def _materialised(body: nn.Module) -> nn.Module:
    """Give a weightless body memory: weights to be drawn, batch statistics as at the start."""
    body.to_empty(device="cpu")
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return body


def _network(name: str) -> nn.Module:
    from torchvision import models

    with warnings.catch_warnings():
        # GoogLeNet and Inception announce another initialisation; ours replaces it anyhow.
        warnings.simplefilter("ignore", FutureWarning)
        network: nn.Module = models.get_model(name, weights=None)
    return network.eval()


# -- structure --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A traced network, and where its features end and its head begins."""

    traced: fx.GraphModule
    stem: str
    """Qualified name of the convolution that reads the image."""
    features: fx.Node
    lowest: float
    """The least value a feature can have; 0 after a ReLU."""
    dropout: float
    linear: nn.Linear

    def body(self, channels: int) -> nn.Module:
        """Return the network up to its features, for images of ``channels``."""
        (output,) = self.traced.graph.find_nodes(op="output")
        output.args = (self.features,)
        self.traced.graph.eliminate_dead_code()
        body = fx.GraphModule(self.traced, self.traced.graph, class_name="TorchvisionBody")
        stem = body.get_submodule(self.stem)
        if isinstance(stem, nn.Conv2d) and stem.in_channels != channels:
            body.set_submodule(self.stem, _like(stem, channels))
        return body


def cut_at_pooling(name: str, network: nn.Module) -> Cut:
    """Find pooling and linear layer from the end. Raises ModelUnfit where they are not."""
    traced = _trace(name, network)
    walk = _Walk(name, traced)
    node, linear = walk.linear()
    node, dropout = walk.between(node)
    features = walk.pooled(node)
    lowest = walk.lowest(features)
    if lowest is None:
        raise ModelUnfit(
            name, f"its features end in {walk.describe(features)}, not in ReLU, SiLU or Hardswish"
        )
    cut = Cut(traced, walk.stem(), features, lowest, dropout, linear)
    _check_layers(name, cut)
    return cut


def _trace(name: str, network: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    try:
        return fx.GraphModule(network, tracer.trace(network))
    except fx.proxy.TraceError as error:
        raise ModelUnfit(name, f"its graph depends on its input: {error}") from error


class _Tracer(fx.Tracer):
    """Keeps whole what acts differently while training."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from torchvision.ops import StochasticDepth

        if isinstance(m, StochasticDepth):
            return True
        return super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True)
class _Walk:
    """Reads a graph from its end."""

    name: str
    traced: fx.GraphModule

    def kind(self, node: fx.Node) -> object:
        """Return what a node calls: a module's type, a function, or a method's name."""
        if node.op == "call_module":
            return type(self.module(node))
        return node.target

    def module(self, node: fx.Node) -> nn.Module:
        return self.traced.get_submodule(str(node.target))

    def describe(self, node: fx.Node) -> str:
        kind = self.kind(node)
        what = str(getattr(kind, "__name__", kind))
        inside = list(node.meta.get("nn_module_stack", {}).values())
        return f"{what} ({inside[-1][0]})" if inside and inside[-1][0] else what

    def stem(self) -> str:
        (x,) = self.traced.graph.find_nodes(op="placeholder")
        first = list(x.users)
        if len(first) != 1 or self.kind(first[0]) is not nn.Conv2d:
            raise ModelUnfit(self.name, "its first layer is not one convolution")
        return str(first[0].target)

    def linear(self) -> tuple[fx.Node, nn.Linear]:
        """Return the last layer and the node before it."""
        (output,) = self.traced.graph.find_nodes(op="output")
        last = output.all_input_nodes[0]
        module = self.module(last) if last.op == "call_module" else None
        if not isinstance(module, nn.Linear):
            raise ModelUnfit(
                self.name, f"it ends in {self.describe(last)}, not in one linear layer"
            )
        return last.all_input_nodes[0], module

    def between(self, node: fx.Node) -> tuple[fx.Node, float]:
        """Step back over flattening and dropout; return the node there and the dropout."""
        dropout = 0.0
        while self.kind(node) in BETWEEN:
            module = self.module(node) if node.op == "call_module" else None
            if isinstance(module, nn.Dropout):
                dropout = module.p
            node = node.all_input_nodes[0]
        return node, dropout

    def pooled(self, node: fx.Node) -> fx.Node:
        """Return what a global average pooling reads."""
        if self.kind(node) not in POOLINGS or not self.is_global(node):
            raise ModelUnfit(
                self.name,
                f"its last linear layer reads {self.describe(node)}, "
                "not the global average of the features",
            )
        return node.all_input_nodes[0]

    def is_global(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return getattr(self.module(node), "output_size", None) in (1, (1, 1))
        extent = node.args[1]
        if node.target == "mean":
            return isinstance(extent, list | tuple) and sorted(map(int, extent)) == [2, 3]
        return extent in (1, (1, 1), [1, 1])

    def lowest(self, node: fx.Node) -> float | None:
        """Return the least value of a node, None where nothing bounds it."""
        if self.kind(node) is torch.cat:
            parts = [self.lowest(part) for part in node.all_input_nodes]
            return None if None in parts else min(part for part in parts if part is not None)
        return LOWEST.get(self.kind(node))


def _check_layers(name: str, cut: Cut) -> None:
    """Refuse layers whose weights :func:`initialise` would not draw."""
    for path, module in cut.traced.named_modules():
        owned = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if owned and not isinstance(module, INITIALISED):
            raise ModelUnfit(name, f"{path} is a {type(module).__name__}, with weights of its own")


def _like(stem: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return the same convolution over another number of channels."""
    height, width = stem.kernel_size
    return nn.Conv2d(
        channels,
        stem.out_channels,
        (height, width),
        stride=stem.stride,  # type: ignore[arg-type]
        padding=stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )


# -- facts ------------------------------------------------------------------------------------

LARGEST = 128
"""Side of square images that every fitting network takes, in pixels."""


@dataclass(frozen=True)
class TorchvisionFacts:
    """What the lab wants to know of a classifier before it builds one."""

    name: str
    parameters: int
    stride: int
    """Input pixels per cell of the CAM grid."""
    smallest_side: int
    """Side of the smallest image that one forward pass takes, pixels."""
    lowest_feature: float
    """0 where the body ends in a ReLU."""
    draws_in_training: bool


def draws_in_training(model: nn.Module) -> bool:
    """Return whether dropout or stochastic depth draw from the global generator in training."""
    return any(float(getattr(module, "p", 0.0)) > 0 for module in model.modules())


def fitting(*, channels: int = 3, classes: int = 10) -> Iterator[TorchvisionFacts]:
    """Yield the facts of every classifier that fits; a minute, and no memory for weights."""
    for name in names():
        try:
            yield facts(name, channels=channels, classes=classes)
        except ModelUnfit:
            continue


def facts(name: str, *, channels: int = 3, classes: int = 10) -> TorchvisionFacts:
    """Return the facts of one. Raises ModelUnfit."""
    cut, model = weightless(name, channels=channels, classes=classes)
    return TorchvisionFacts(
        name=name,
        parameters=parameter_count(model),
        stride=_stride(model, channels),
        smallest_side=_smallest_side(model, channels),
        lowest_feature=cut.lowest,
        draws_in_training=draws_in_training(model),
    )


def weightless(name: str, *, channels: int, classes: int) -> tuple["Cut", CamClassifier]:
    """Return a network on the ``meta`` device, and how it was cut. Raises ModelUnfit."""
    cut, body = _weightless(name, channels)
    head = PooledLinear(cut.linear.in_features, classes, dropout=cut.dropout)
    model = CamClassifier(Normalise(torch.zeros(channels), torch.ones(channels)), body, head)
    return cut, model.to("meta")


def _stride(model: CamClassifier, channels: int) -> int:
    # From a difference, since convolutions without padding (Inception) cost cells at the edge.
    small, large = (grid_size(model, channels, side)[0] for side in (1024, 2048))
    return 1024 // (large - small)


def _smallest_side(model: CamClassifier, channels: int) -> int:
    return bisect_left(range(LARGEST), True, 1, key=lambda side: _takes(model, channels, side))  # noqa: FBT003


def _takes(model: CamClassifier, channels: int, side: int) -> bool:
    try:
        cells = grid_size(model, channels, side)
    except RuntimeError:  # a kernel or a pooling larger than its input
        return False
    return min(cells) > 0
