"""Pre-activation residual networks (He et al., 2016, https://arxiv.org/abs/1603.05027).

The body both PreAct ResNet-18 and WideResNets have: a 3x3 stem of stride 1, stages of basic blocks,
and a last batch norm with ReLU. Maps are read after that ReLU, never before it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


class PreActBlock(nn.Module):
    """x + F(x), F twice batch norm, ReLU and a 3x3 convolution.

    Where the shape changes, a 1x1 convolution of the activated input takes the place of x. This is
    the form of Rice et al. and of TRADES; Wong et al. (2020) convolve the input itself.
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or before != width:
            self.shortcut = nn.Conv2d(before, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, before, h, w). Returns (N, width, h / stride, w / stride)."""
        active = self.relu(self.bn1(x))
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them has the stride."""

    width: int
    stride: int


def pre_activation_body(
    channels: int, *, stem: int, stages: Sequence[Stage], blocks: int
) -> nn.Sequential:
    """Return the body, its parts named conv1, stage1, stage2, ..., bn, relu."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv1"] = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
    before = stem
    for number, stage in enumerate(stages, start=1):
        first = PreActBlock(before, stage.width, stage.stride)
        others = (PreActBlock(stage.width, stage.width, 1) for _ in range(blocks - 1))
        parts[f"stage{number}"] = nn.Sequential(first, *others)
        before = stage.width
    parts["bn"] = nn.BatchNorm2d(before)
    parts["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)
