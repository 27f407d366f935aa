"""How strong each corruption is: the parameters of CIFAR-10-C.

Hendrycks & Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261; the strengths, from 1 to 5, are
those its authors published for 32x32 images.
"""

from collections.abc import Mapping
from itertools import starmap
from typing import Protocol

from torch import Tensor

from partcore.corruptions.blur import DefocusBlur, GaussianBlur, MotionBlur, ZoomBlur
from partcore.corruptions.colour import Brightness, Contrast, Saturate
from partcore.corruptions.digital import Elastic, Jpeg, Pixelate
from partcore.corruptions.draws import Draws
from partcore.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from partcore.corruptions.weather import Fog, Snow


class Corruption(Protocol):
    """A corruption at one strength."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', (N, C, H, W), perhaps beyond [0, 1]. x: (N, C, H, W) in [0, 1], C 3 or 1."""


DOWN = (-135.0, -45.0)
"""Degrees: where snow falls."""

CORRUPTIONS: Mapping[str, tuple[Corruption, ...]] = {
    "gaussian-noise": tuple(map(GaussianNoise, (0.04, 0.06, 0.08, 0.09, 0.10))),
    "shot-noise": tuple(map(ShotNoise, (500, 250, 100, 75, 50))),
    "impulse-noise": tuple(map(ImpulseNoise, (0.01, 0.02, 0.03, 0.05, 0.07))),
    "speckle-noise": tuple(map(SpeckleNoise, (0.06, 0.1, 0.12, 0.16, 0.2))),
    "defocus-blur": tuple(
        starmap(DefocusBlur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)))
    ),
    "motion-blur": tuple(starmap(MotionBlur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)))),
    # 6 and 11, not 5 and 10: the published ranges in steps of 0.01 include a rounded end.
    "zoom-blur": tuple(map(ZoomBlur, (6, 11, 15, 20, 25))),
    "gaussian-blur": tuple(map(GaussianBlur, (0.4, 0.6, 0.7, 0.8, 1))),
    "snow": (
        Snow(0.1, 0.2, 1, 0.6, MotionBlur(8, 3, DOWN), 0.95),
        Snow(0.1, 0.2, 1, 0.5, MotionBlur(10, 4, DOWN), 0.9),
        Snow(0.15, 0.3, 1.75, 0.55, MotionBlur(10, 4, DOWN), 0.9),
        Snow(0.25, 0.3, 2.25, 0.6, MotionBlur(12, 6, DOWN), 0.85),
        Snow(0.3, 0.3, 1.25, 0.65, MotionBlur(14, 12, DOWN), 0.8),
    ),
    "fog": tuple(starmap(Fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)))),
    "brightness": tuple(map(Brightness, (0.05, 0.1, 0.15, 0.2, 0.3))),
    "contrast": tuple(map(Contrast, (0.75, 0.5, 0.4, 0.3, 0.15))),
    "saturate": tuple(starmap(Saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)))),
    "elastic": (
        Elastic(0, 0, 0.08),
        Elastic(0.05, 0.2, 0.07),
        Elastic(0.08, 0.06, 0.06),
        Elastic(0.1, 0.04, 0.05),
        Elastic(0.1, 0.03, 0.03),
    ),
    "pixelate": tuple(map(Pixelate, (0.95, 0.9, 0.85, 0.75, 0.65))),
    "jpeg": tuple(map(Jpeg, (80, 65, 58, 50, 40))),
}
"""Each kind at severities 1 to 5."""


def corrupt(x: Tensor, kind: str, severity: int, draws: Draws) -> Tensor:
    """Return x', (N, C, H, W) in [0, 1], not rounded to 8 bits (jpeg apart).

    x: (N, C, H, W) in [0, 1], C 3 or 1, H and W 8 or more. draws: one generator a sample.
    Raises KeyError for an unknown kind, ValueError for a severity that is none of 1 to 5.
    """
    strengths = CORRUPTIONS[kind]
    if not 1 <= severity <= len(strengths):
        raise ValueError(f"severity {severity} is none of 1 to {len(strengths)}")
    return strengths[severity - 1](x, draws).clamp(0, 1)
