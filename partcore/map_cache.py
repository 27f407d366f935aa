"""Maps kept from step to step, keyed by sample and warped as the sample's image is.

A map is computed on the image as stored; crop and flip then move it with the pixels (defect 1 of
the published code kept them by batch, where they belonged to other images). It says nothing of the
pixels that padding brought in: there it is 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.data import Warp

NEVER = -1


@dataclass(frozen=True)
class Refresh:
    """When a kept map is too old: after so many steps, or so many epochs."""

    steps: int | None = None
    epochs: int | None = None

    def is_due(self, made: Tensor, step: int, steps_per_epoch: int) -> Tensor:
        """Return which maps to compute again, (N,) bool. made: (N,), steps, or -1 for never."""
        if self.steps is not None:
            old = step - made >= self.steps
        else:
            epochs = self.epochs or 1
            old = step // steps_per_epoch - made // steps_per_epoch >= epochs
        return old | (made == NEVER)


class MapCache:
    """The heatmap of every training image, in 1/255, and the step it was made at."""

    def __init__(self, count: int, size: tuple[int, int], device: str) -> None:
        self.heat = torch.zeros((count, *size), dtype=torch.uint8, device=device)
        self.made = torch.full((count,), NEVER, dtype=torch.int64, device=device)
        self.drift = torch.zeros(2, dtype=torch.float64)
        """Sum of overlaps and their number, since the last :meth:`take_drift`."""

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"heat": self.heat, "made": self.made, "drift": self.drift}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def take_drift(self) -> float | None:
        """Return the mean overlap of renewed maps with those they replaced, and count anew."""
        total, number = self.drift.tolist()
        self.drift.zero_()
        return total / number if number else None


@dataclass(frozen=True)
class CachedMaps:
    """A batch's maps from the cache, those that are due computed first."""

    cache: MapCache
    refresh: Refresh
    index: Tensor
    """(N,), places of the batch's images in the cache."""
    x: Tensor
    """(N, C, H, W), the images as stored, in [0, 1]."""
    y: Tensor
    warp: Warp
    step: int
    steps_per_epoch: int

    def __call__(
        self, heat_of: Callable[[Tensor, Tensor], Tensor], region_of: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Return maps (N, H, W) of the augmented images, and what to record.

        heat_of: images and labels to heatmaps (M, H, W). region_of: heatmaps to the pixels of high
        budget (M, H, W) bool, by which drift is judged.
        """
        cache, index = self.cache, self.index
        made = cache.made[index]
        due = self.refresh.is_due(made, self.step, self.steps_per_epoch)
        if due.any():
            fresh = (255 * heat_of(self.x[due], self.y[due])).round().to(torch.uint8)
            known = made[due] != NEVER
            before = region_of(cache.heat[index[due]][known] / 255)
            cache.drift += _overlap(before, region_of(fresh[known] / 255))
            cache.heat[index[due]] = fresh
            cache.made[index[due]] = self.step
        heat = self.warp(cache.heat[index][:, None])[:, 0] / 255
        return heat, {
            "cam/age_steps": (self.step - cache.made[index]).float().mean().item(),
            "cam/recomputed": due.float().mean().item(),
        }


def _overlap(before: Tensor, after: Tensor) -> Tensor:
    """Return the sum over images of intersection over union, and how many images, (2,)."""
    both = (before & after).flatten(1).sum(dim=1).double()
    either = (before | after).flatten(1).sum(dim=1).double()
    ratio = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return torch.stack([ratio.sum(), ratio.new_tensor(len(ratio))]).cpu()
