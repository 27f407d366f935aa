"""Facts about datasets and models that the API needs without loading PyTorch.

A test of partcore proves each of them against the real thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

DatasetName = Literal["digits", "cifar10", "cifar100", "svhn", "image-folder"]
ModelName = Literal["small-cnn", "resnet18"]


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset is and what is usually done with it."""

    title: str
    classes: int | None
    """None where the folder decides (``image-folder``)."""
    channels: int
    size: int
    """Side of the square images, pixels."""
    train: int | None
    test: int | None
    epsilon: Fraction
    """The usual l-infinity radius, in [0, 1]."""
    pad: int
    """Random crop after padding by this many pixels; 0 for none."""
    flip: bool
    how_to_get: str


@dataclass(frozen=True)
class ModelFacts:
    """What a model is."""

    title: str
    parameters_at: Mapping[tuple[int, int], int]
    """Parameter count by (channels, classes)."""
    stride: int
    """Input pixels per cell of its CAM grid."""
    default_learning_rate: float


DATASETS: Mapping[DatasetName, DatasetFacts] = {
    "digits": DatasetFacts(
        title="Handwritten digits (scikit-learn's bundled 8x8 scans)",
        classes=10,
        channels=1,
        size=8,
        train=1437,
        test=360,
        epsilon=Fraction(51, 255),
        pad=1,
        flip=False,
        how_to_get="bundled with scikit-learn; nothing to download",
    ),
    "cifar10": DatasetFacts(
        title="CIFAR-10",
        classes=10,
        channels=3,
        size=32,
        train=50_000,
        test=10_000,
        epsilon=Fraction(8, 255),
        pad=4,
        flip=True,
        how_to_get="run `python -m partcore.data download cifar10` on the worker's host",
    ),
    "cifar100": DatasetFacts(
        title="CIFAR-100",
        classes=100,
        channels=3,
        size=32,
        train=50_000,
        test=10_000,
        epsilon=Fraction(8, 255),
        pad=4,
        flip=True,
        how_to_get="run `python -m partcore.data download cifar100` on the worker's host",
    ),
    "svhn": DatasetFacts(
        title="Street View House Numbers, format 2",
        classes=10,
        channels=3,
        size=32,
        train=73_257,
        test=26_032,
        epsilon=Fraction(8, 255),
        pad=4,
        flip=False,
        how_to_get="run `python -m partcore.data download svhn` on the worker's host",
    ),
    "image-folder": DatasetFacts(
        title="A folder of images: <data root>/<folder>/{train,test}/<class>/*",
        classes=None,
        channels=3,
        size=32,
        train=None,
        test=None,
        epsilon=Fraction(8, 255),
        pad=4,
        flip=True,
        how_to_get=(
            "put train/<class>/ and test/<class>/ folders of images under "
            "<data root>/<folder> on the worker's host"
        ),
    ),
}

MODELS: Mapping[ModelName, ModelFacts] = {
    "small-cnn": ModelFacts(
        title="Small convolutional network for CPUs",
        parameters_at={},
        stride=2,
        default_learning_rate=0.1,
    ),
    "resnet18": ModelFacts(
        title="ResNet-18 with a 3x3 stem and no max-pool (CIFAR form)",
        parameters_at={(3, 10): 11_173_962},
        stride=8,
        default_learning_rate=0.1,
    ),
}
