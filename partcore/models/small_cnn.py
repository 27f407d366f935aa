"""A small network for CPUs: four 3x3 convolutions, stride 2 overall."""

from torch import Generator, Tensor, nn

from partcore.models.classifier import CamClassifier, assemble

WIDTHS = (32, 64, 64, 96)
STRIDES = (1, 2, 1, 1)


def small_cnn(
    *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
) -> CamClassifier:
    """Return the network; its CAM grid is half the image's side (4x4 on 8x8 digits)."""
    layers: list[nn.Module] = []
    before = channels
    for width, stride in zip(WIDTHS, STRIDES, strict=True):
        layers += [
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
    return assemble(
        nn.Sequential(*layers),
        width=before,
        classes=classes,
        mean=mean,
        std=std,
        generator=generator,
    )
