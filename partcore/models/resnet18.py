"""ResNet-18 (He et al., 2016, https://arxiv.org/abs/1512.03385) in its form for 32x32 images.

torchvision's network with a 3x3 stem of stride 1 and no max-pool, as the PART papers use it:
11,173,962 parameters with ten classes.
"""

from torch import Generator, Tensor, nn

from partcore.models.classifier import CamClassifier, assemble

FEATURES = 512


def resnet18(
    *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
) -> CamClassifier:
    """Return the network; its CAM grid is an eighth of the image's side (4x4 of 32x32)."""
    from torchvision.models import resnet18 as torchvision_resnet18  # slow to import

    network = torchvision_resnet18(weights=None)
    stem = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    return assemble(
        nn.Sequential(stem, network.bn1, network.relu, *stages),
        width=FEATURES,
        classes=classes,
        mean=mean,
        std=std,
        generator=generator,
    )
