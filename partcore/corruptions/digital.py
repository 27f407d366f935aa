"""What happens to files: fewer pixels, JPEG, a warped picture."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from partcore.corruptions.draws import Draws
from partcore.corruptions.sampling import (
    along_both,
    box_matrix,
    gaussian_matrix,
    mirrored,
    places,
    read_at,
)


@dataclass(frozen=True)
class Pixelate:
    """Fewer pixels by a box filter, and back to the old size. The share is the same at any size."""

    share: float
    """Of each side."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        rows, columns = (self._there_and_back(size) for size in x.shape[-2:])
        return along_both(x, rows, columns)

    def _there_and_back(self, size: int) -> Tensor:
        fewer = int(size * self.share)
        return box_matrix(fewer, size) @ box_matrix(size, fewer)


@dataclass(frozen=True)
class Jpeg:
    """Written as JPEG and read again, by Pillow: in 8 bits. Blocks are 8x8 at any size."""

    quality: int
    """From 0 to 95."""

    def __call__(self, x: Tensor, _draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1], C 3 or 1."""
        levels = (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        read = np.stack([self._read(one) for one in levels])  # a codec takes one image
        return torch.from_numpy(read).permute(0, 3, 1, 2).to(x) / 255

    def _read(self, image: np.ndarray) -> np.ndarray:
        """Return (H, W, C) uint8 of the same."""
        stream = BytesIO()
        grey = image.shape[-1] == 1
        Image.fromarray(image[..., 0] if grey else image).save(stream, "JPEG", quality=self.quality)
        return np.asarray(Image.open(stream)).reshape(image.shape)


@dataclass(frozen=True)
class Elastic:
    """A random affine map, and each pixel displaced by smooth noise; lengths in sides of the image.

    Both are read in one interpolation; the published code does one after the other.
    """

    strength: float
    """Weight of the noise in [-1, 1] once it is smooth."""
    smoothness: float
    """Deviation of the Gaussian that makes it smooth."""
    affine: float
    """How far each of three points may move along each axis."""

    def __call__(self, x: Tensor, draws: Draws, /) -> Tensor:
        """Return x'. x: (N, C, H, W) in [0, 1]."""
        row, column = (place.cpu() for place in places(x))
        if self.strength > 0:
            field = self._field(draws, *x.shape[-2:])
            row, column = row + field[:, 0], column + field[:, 1]
        row, column = self._mapped(row, column, draws, *x.shape[-2:])
        return read_at(x, row.to(x), column.to(x), beyond="reflection")

    def _field(self, draws: Draws, height: int, width: int) -> Tensor:
        """Return displacements along rows and columns, (N, 2, H, W) pixels."""
        side = min(height, width)
        rows, columns = (
            gaussian_matrix(size, self.smoothness * side, mirrored, truncate=3)
            for size in (height, width)
        )
        noise = draws.uniform(-1, 1, 2, height, width)
        return self.strength * side * along_both(noise, rows, columns)

    def _mapped(
        self, row: Tensor, column: Tensor, draws: Draws, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Return where the affine map of each sample takes places from, (N, H, W) pixels each."""
        side = min(height, width)
        corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        points = torch.tensor([height // 2, width // 2]) + (side // 3) * corners  # (3, 2)
        moved = points + draws.uniform(-self.affine * side, self.affine * side, 3, 2)
        ones = torch.ones(len(moved), 3, 1)
        map_back = torch.linalg.solve(torch.cat([moved, ones], dim=2), points)  # (N, 3, 2)
        by_row, by_column, shift = map_back[..., None, None].unbind(dim=1)  # (N, 2, 1, 1) each
        taken = by_row * row[:, None] + by_column * column[:, None] + shift
        return taken[:, 0], taken[:, 1]
