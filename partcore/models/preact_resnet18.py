"""PreAct ResNet-18 for 32x32 images, as Rice et al. (2020) and Pang et al. (2021) train it.

https://arxiv.org/abs/2002.11569, https://arxiv.org/abs/2010.00467. With the last batch norm it has
11,172,170 parameters for ten classes; the form without it, of Wong et al. (2020), has 11,171,146.
"""

from torch import Generator, Tensor

from partcore.models.classifier import CamClassifier, assemble
from partcore.models.pre_activation import Stage, pre_activation_body

STAGES = (Stage(64, 1), Stage(128, 2), Stage(256, 2), Stage(512, 2))


def preact_resnet18(
    *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
) -> CamClassifier:
    """Return the network; its CAM grid is an eighth of the image's side (4x4 of 32x32)."""
    return assemble(
        pre_activation_body(channels, stem=64, stages=STAGES, blocks=2),
        width=STAGES[-1].width,
        classes=classes,
        mean=mean,
        std=std,
        generator=generator,
    )
