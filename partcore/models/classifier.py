"""The form every network has here: normalise, features, pooled linear head."""

import math
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from partcore.modes import evaluating


class ModelUnfit(Exception):
    """A network has not the form this lab computes maps on; ``reason`` says what is in the way."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name} does not fit: {reason}")


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
    """Global average pooling, then one linear layer: the head in closed form.

    Dropout between the two, where a network has it, is the identity in evaluation mode, in which
    every map is computed.
    """

    def __init__(self, channels: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.linear = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, K, h, w). Returns logits (N, classes)."""
        logits: Tensor = self.linear(self.dropout(features.mean(dim=(2, 3))))
        return logits


class CamClassifier(nn.Module):
    """A classifier that shows its last convolutional features.

    ``body`` ends in a ReLU, so that the features are those CAM papers mean. The exceptions are
    those of ``torchvision_classifier`` whose last activation is smooth (SiLU): their features reach
    slightly below zero.
    """

    def __init__(self, normalise: Normalise, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1]. Returns (N, K, h, w)."""
        features: Tensor = self.body(self.normalise(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1]. Returns logits (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


class Builder(Protocol):
    """Makes a network with freshly drawn weights."""

    def __call__(
        self, *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
    ) -> CamClassifier:
        """Return the network. mean, std: (channels,), of images in [0, 1]."""
        ...


INITIALISED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
"""The layers :func:`initialise` knows; whatever has other parameters needs more of it."""


def initialise(model: nn.Module, generator: Generator) -> None:
    """Draw every weight from ``generator``: He et al. (2015) for convolutions, fan-out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def assemble(
    body: nn.Module,
    *,
    width: int,
    classes: int,
    mean: Tensor,
    std: Tensor,
    generator: Generator,
    dropout: float = 0.0,
) -> CamClassifier:
    """Put normalisation and a pooled linear head around ``body`` and draw the weights."""
    head = PooledLinear(width, classes, dropout=dropout)
    model = CamClassifier(Normalise(mean, std), body, head)
    initialise(model, generator)
    return model


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers training adjusts."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def grid_size(model: CamClassifier, channels: int, size: int) -> tuple[int, int]:
    """Return (h, w) of the CAM grid for square images of ``size`` pixels."""
    with evaluating(model):
        features = model.features(blank(model, channels, size))
    return int(features.shape[2]), int(features.shape[3])


def blank(model: nn.Module, channels: int, size: int) -> Tensor:
    """Return one black image, (1, channels, size, size), where the model is."""
    device = next(model.parameters()).device
    return torch.zeros(1, channels, size, size, device=device)
