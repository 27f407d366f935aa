"""The form every network has here: normalise, features, pooled linear head."""

import math

import torch
from torch import Generator, Tensor, nn


class Normalise(nn.Module):
    """Subtract the mean and divide by the deviation, so that models take images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """mean, std: (C,)."""
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1).clone())
        self.register_buffer("std", std.view(1, -1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1]."""
        return (x - self.mean) / self.std


class PooledLinear(nn.Module):
    """Global average pooling, then one linear layer: the head in closed form."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, K, h, w). Returns logits (N, classes)."""
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


class CamClassifier(nn.Module):
    """A classifier that shows its last convolutional features.

    ``body`` must end in a ReLU, so that the features are those CAM papers mean.
    """

    def __init__(self, normalise: Normalise, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1]. Returns (N, K, h, w), non-negative."""
        features: Tensor = self.body(self.normalise(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1]. Returns logits (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def initialise(model: nn.Module, generator: Generator) -> None:
    """Draw every weight from ``generator``: He et al. (2015) for convolutions, fan-out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def assemble(
    body: nn.Module, *, width: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
) -> CamClassifier:
    """Put normalisation and a pooled linear head around ``body`` and draw the weights."""
    model = CamClassifier(Normalise(mean, std), body, PooledLinear(width, classes))
    initialise(model, generator)
    return model


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers training adjusts."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def grid_size(model: CamClassifier, channels: int, size: int) -> tuple[int, int]:
    """Return (h, w) of the CAM grid for square images of ``size`` pixels."""
    features = model.features(torch.zeros(1, channels, size, size))
    return int(features.shape[2]), int(features.shape[3])
