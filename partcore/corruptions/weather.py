"""Weather that can be drawn; frost needs photographs and is left out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.corruptions.blur import MotionBlur
from partcore.corruptions.draws import Draws
from partcore.corruptions.sampling import zoomed

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue count in a grey image (ITU-R BT.601)."""


@dataclass(frozen=True)
class Fog:
    """A light cloud on the image, which is then darkened to its old maximum."""

    density: float
    """Brightness of the thickest fog, of [0, 1]."""
    smoothness: float
    """See :func:`plasma`."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', unclipped. x: (N, C, H, W) in [0, 1]."""
        height, width = x.shape[-2:]
        side = 1 << (max(height, width) - 1).bit_length()
        cloud = plasma(draws.uniform(-1, 1, side, side), self.smoothness)
        brightest = x.amax(dim=(1, 2, 3), keepdim=True)
        foggy = x + self.density * cloud[:, None, :height, :width].to(x)
        return foggy * brightest / (brightest + self.density)


def plasma(noise: Tensor, smoothness: float) -> Tensor:
    """Return clouds by the diamond-square algorithm on a torus, scaled to [0, 1] each.

    noise: (N, S, S) in [-1, 1], S a power of two: what each point adds to the mean of its four
    neighbours. Its weight falls by ``smoothness`` squared whenever the grid gets twice as fine.
    """
    side = noise.shape[-1]
    cloud = torch.zeros_like(noise)
    step, weight = side, 1.0
    while step > 1:
        half, scaled = step // 2, weight * noise
        corner = cloud[:, ::step, ::step]
        across = corner + corner.roll(-1, dims=2)
        down = corner + corner.roll(-1, dims=1)
        centre = (across + across.roll(-1, dims=1)) / 4 + scaled[:, half::step, half::step]
        top = (across + centre + centre.roll(1, dims=1)) / 4 + scaled[:, ::step, half::step]
        left = (down + centre + centre.roll(1, dims=2)) / 4 + scaled[:, half::step, ::step]
        cloud[:, half::step, half::step] = centre
        cloud[:, ::step, half::step] = top
        cloud[:, half::step, ::step] = left
        step, weight = half, weight / smoothness**2
    cloud = cloud - cloud.amin(dim=(1, 2), keepdim=True)
    return cloud / cloud.amax(dim=(1, 2), keepdim=True)


@dataclass(frozen=True)
class Snow:
    """Flakes, blown along a line and laid on once more upside down, over a paler image.

    The size of flakes and the length of the line are pixels of a 32x32 image.
    """

    mean: float
    std: float
    """Of the normal numbers flakes are cut from, of [0, 1]."""
    zoom: float
    """How many pixels a flake's side has."""
    threshold: float
    """Below it there is no snow."""
    blown: MotionBlur
    keep: float
    """Weight of the image as it was; the rest is paler."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x', unclipped. x: (N, C, H, W) in [0, 1]."""
        drawn = self.mean + self.std * draws.normal(1, *x.shape[-2:]).to(x)
        flakes = zoomed(drawn, self.zoom)
        flakes = torch.where(flakes < self.threshold, 0, flakes).clamp(0, 1)
        flakes = self.blown(flakes, draws)
        pale = torch.maximum(x, 1.5 * grey(x) + 0.5)
        return self.keep * x + (1 - self.keep) * pale + flakes + flakes.rot90(2, dims=(2, 3))


def grey(x: Tensor) -> Tensor:
    """Return brightness, (N, 1, H, W). x: (N, C, H, W), C 3 or 1."""
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
