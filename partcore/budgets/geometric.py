"""Fixed regions: the report's PART-M with priors instead of maps."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Region = Literal[
    "centre", "border", "top-left", "top-right", "bottom-left", "bottom-right", "everywhere"
]


@dataclass(frozen=True)
class Geometric:
    """S = 1 inside a region, 0 outside, whatever the map shows.

    `centre` is the middle half of each side, `border` what surrounds it; the others are quadrants.
    """

    region: Region = "centre"

    def __call__(self, heatmap: Tensor) -> Tensor:
        """(N, H, W) to (N, H, W) in {0, 1}."""
        height, width = heatmap.shape[-2:]
        rows, columns = _spans(self.region, height, width)
        inside = torch.zeros(height, width, dtype=heatmap.dtype, device=heatmap.device)
        inside[rows, columns] = 1
        if self.region == "border":
            inside = 1 - inside
        return inside.expand(heatmap.shape).contiguous()


def _spans(region: Region, height: int, width: int) -> tuple[slice, slice]:
    if region == "everywhere":
        return slice(None), slice(None)
    if region in ("centre", "border"):
        return slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)
    top, left = region.startswith("top"), region.endswith("left")
    rows = slice(0, height // 2) if top else slice(height // 2, None)
    columns = slice(0, width // 2) if left else slice(width // 2, None)
    return rows, columns
