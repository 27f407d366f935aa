"""Networks by name."""

from collections.abc import Mapping
from typing import Protocol

from torch import Generator, Tensor

from partcore.models.classifier import CamClassifier
from partcore.models.resnet18 import resnet18
from partcore.models.small_cnn import small_cnn


class Builder(Protocol):
    """Makes a network with freshly drawn weights."""

    def __call__(
        self, *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
    ) -> CamClassifier:
        """Return the network. mean, std: (channels,), of images in [0, 1]."""
        ...


MODELS: Mapping[str, Builder] = {"small-cnn": small_cnn, "resnet18": resnet18}

__all__ = ["MODELS", "Builder", "CamClassifier"]
