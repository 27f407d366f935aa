"""What every figure of the core is measured on: one network, one batch, one attack."""

import torch
from torch import Tensor

from partcore.attacks import InnerPgd
from partcore.models import MODELS, CamClassifier
from partcore.randomness import generator

BATCH, EPSILON, EPSILON_LOW = 32, 8 / 255, 7 / 255
ATTACK = InnerPgd(step_size=EPSILON / 4, num_steps=10)


def untrained() -> CamClassifier:
    """Return a ResNet-18 for 32x32 images whose batch statistics are those of its inputs."""
    model = MODELS["resnet18"](
        channels=3,
        classes=10,
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        generator=generator(0, "bench"),
    )
    with torch.no_grad():
        for _ in range(5):
            model(smooth_images(BATCH))
    return model.to(memory_format=torch.channels_last)


def smooth_images(count: int) -> Tensor:
    """Return smooth random images, (count, 3, 32, 32)."""
    coarse = torch.rand(count, 3, 8, 8, generator=generator(1, "images"))
    large = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return large.contiguous(memory_format=torch.channels_last)


def labels(count: int) -> Tensor:
    """Return classes in turn, (count,)."""
    return torch.arange(count) % 10
