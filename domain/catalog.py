"""Facts about datasets and models that the API needs without loading PyTorch.

A test of partcore proves each of them against the real thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

DatasetName = Literal["digits", "cifar10", "cifar100", "svhn", "image-folder"]
TORCHVISION = "torchvision:"
"""Before the name of a classifier of torchvision."""


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
    smallest_size: int = 1
    """Side in pixels of the smallest image it takes: there its CAM grid is 1x1."""
    default_learning_rate: float = 0.1

    def grid(self, size: int) -> int:
        """Return the side of its CAM grid for square images of ``size``; 0: it takes none such.

        Exact: every network here is convolutions and poolings in a row, each of which makes
        floor((size - a) / b) + 1 of a side, and so does what they compose to.
        """
        return max(0, (size - self.smallest_size) // self.stride + 1)

    @property
    def smallest_cam_size(self) -> int:
        """Side of the smallest images whose CAM grid is 2x2, which a map needs to vary."""
        return self.smallest_size + self.stride


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

_TORCHVISION: Mapping[str, int] = {
    "densenet121": 6_964_106,
    "densenet161": 26_494_090,
    "densenet169": 12_501_130,
    "densenet201": 18_112_138,
    "efficientnet_b0": 4_020_358,
    "efficientnet_b1": 6_525_994,
    "efficientnet_b2": 7_715_084,
    "efficientnet_b3": 10_711_602,
    "efficientnet_b4": 17_566_546,
    "efficientnet_b5": 28_361_274,
    "efficientnet_b6": 40_758_754,
    "efficientnet_b7": 63_812_570,
    "efficientnet_v2_l": 117_247_082,
    "efficientnet_v2_m": 52_871_166,
    "efficientnet_v2_s": 20_190_298,
    "googlenet": 5_610_154,
    "inception_v3": 21_806_058,
    "mnasnet0_5": 950_322,
    "mnasnet0_75": 1_902_018,
    "mnasnet1_0": 3_115_122,
    "mnasnet1_3": 5_014_066,
    "mobilenet_v2": 2_236_682,
    "regnet_x_16gf": 52_250_026,
    "regnet_x_1_6gf": 8_286_266,
    "regnet_x_32gf": 105_315_770,
    "regnet_x_3_2gf": 14_297_642,
    "regnet_x_400mf": 5_098_986,
    "regnet_x_800mf": 6_593_386,
    "regnet_x_8gf": 37_670_858,
    "regnet_y_128gf": 637_493_824,
    "regnet_y_16gf": 80_595_390,
    "regnet_y_1_6gf": 10_322_320,
    "regnet_y_32gf": 141_370_900,
    "regnet_y_3_2gf": 17_938_468,
    "regnet_y_400mf": 3_907_554,
    "regnet_y_800mf": 5_655_362,
    "regnet_y_8gf": 37_384_642,
    "resnet101": 42_520_650,
    "resnet152": 58_164_298,
    "resnet18": 11_181_642,
    "resnet34": 21_289_802,
    "resnet50": 23_528_522,
    "resnext101_32x8d": 86_762_826,
    "resnext101_64x4d": 81_426_762,
    "resnext50_32x4d": 23_000_394,
    "shufflenet_v2_x0_5": 352_042,
    "shufflenet_v2_x1_0": 1_263_854,
    "shufflenet_v2_x1_5": 2_488_874,
    "shufflenet_v2_x2_0": 5_365_486,
    "wide_resnet101_2": 124_858_186,
    "wide_resnet50_2": 66_854_730,
}
"""torchvision's classifiers that end in pooling and a linear head: parameters at 3 channels and ten
classes."""

_SMALLEST: Mapping[str, int] = {
    **{name: 29 for name in _TORCHVISION if name.startswith("densenet")},
    "googlenet": 15,
    "inception_v3": 75,
}
"""Those whose poolings or unpadded convolutions cost cells at the edge."""

MODELS: Mapping[str, ModelFacts] = {
    "small-cnn": ModelFacts(
        title="Small convolutional network for CPUs",
        parameters_at={(3, 10): 112_938, (1, 10): 112_362},
        stride=2,
    ),
    "resnet18": ModelFacts(
        title="ResNet-18 with a 3x3 stem and no max-pool (CIFAR form)",
        parameters_at={(3, 10): 11_173_962},
        stride=8,
    ),
    "preact-resnet18": ModelFacts(
        title="PreAct ResNet-18 (Rice et al., 2020)",
        parameters_at={(3, 10): 11_172_170},
        stride=8,
    ),
    "wrn-28-10": ModelFacts(
        title="Wide ResNet 28-10 (TRADES' form)",
        parameters_at={(3, 10): 36_479_194},
        stride=4,
    ),
    "wrn-34-10": ModelFacts(
        title="Wide ResNet 34-10 (TRADES' form)",
        parameters_at={(3, 10): 46_160_474},
        stride=4,
    ),
    **{
        TORCHVISION + name: ModelFacts(
            title=f"torchvision's {name}, for images of {_SMALLEST.get(name, 1) + 32} pixels and "
            "more",
            parameters_at={(3, 10): count},
            stride=32,
            smallest_size=_SMALLEST.get(name, 1),
        )
        for name, count in _TORCHVISION.items()
    },
}
