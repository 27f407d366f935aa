"""The picture of a PART++ step: image, maps, mask, radii, perturbation, adversarial image."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

mpl.rcParams["font.family"] = "DejaVu Sans"
INK, FAINT, RIGHT, WRONG = "#1b1f24", "#6b7280", "#15803d", "#b91c1c"
COLUMNS = (
    ("image", "x"),
    ("Grad-CAM", "Eq. 4"),
    ("Grad-CAM++", "Eq. 5"),
    ("Score-CAM", "softmax scores"),
    ("ensemble M", "Eq. 9"),
    ("mask S", "Eq. 7"),
    ("radius ε$_w$", "Eq. 8"),
    ("perturbation", "δ"),
    ("adversarial", "x + δ"),
)
STEPS = (
    (1, 3, "class activation maps of the true label"),
    (4, 6, "from ensemble to budget"),
    (7, 8, "the attack inside that budget"),
)
CELL, LEFT, GAP, TOP, BOTTOM = 1.3, 0.75, 0.09, 0.92, 0.72
"""Inches: a cell's side, the margin of row names, and what separates and surrounds the cells."""


@dataclass(frozen=True)
class BudgetPicture:
    """What one row for each image is drawn from; all on the CPU."""

    x: Tensor
    """(N, C, H, W), in [0, 1]."""
    maps: Tensor
    """(3, N, H, W): Grad-CAM, Grad-CAM++, Score-CAM, in [0, 1]."""
    ensemble: Tensor
    """(N, H, W)."""
    mask: Tensor
    """S, (N, H, W)."""
    epsilon: Tensor
    """(N, 1, H, W), in [0, 1]."""
    x_adv: Tensor
    """(N, C, H, W)."""
    truth: Sequence[str]
    predicted: Sequence[str]
    predicted_adv: Sequence[str]
    radii: tuple[float, float]
    """epsilon_low, epsilon_high, in [0, 1]."""
    caption: str


@dataclass(frozen=True)
class Scale:
    """How a column's values become colours; the columns that share one share its bar."""

    first: int
    last: int
    colours: str
    low: float
    high: float
    unit: str

    def paint(self, axes: Any, values: Tensor) -> None:  # noqa: ANN401 - matplotlib
        """Fill ``axes``. values: (H, W)."""
        axes.imshow(
            values.numpy(),
            cmap=self.colours,
            vmin=self.low,
            vmax=self.high,
            interpolation="nearest",
        )


def draw(picture: BudgetPicture) -> bytes:
    """Return the figure as PNG bytes, one row for each image."""
    rows, columns = len(picture.x), len(COLUMNS)
    width = LEFT + columns * (CELL + GAP)
    height = TOP + rows * (CELL + 3 * GAP) + BOTTOM
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)

    def place(row: float, column: float, cells: float = 1.0, tall: float = CELL) -> Any:  # noqa: ANN401
        left = LEFT + column * (CELL + GAP)
        bottom = height - TOP - row * (CELL + 3 * GAP) - tall
        wide = cells * (CELL + GAP) - GAP
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    scales = _scales(picture)
    cells = [[place(row, column) for column in range(columns)] for row in range(rows)]
    for row in range(rows):
        _draw_row(cells[row], picture, row, scales)
    for scale in scales:
        bar = place(rows + 0.03, scale.first + 0.06, scale.last - scale.first + 0.88, 0.07)
        _colour_bar(bar, scale)
    for axes, (title, note) in zip(cells[0], COLUMNS, strict=True):
        _write(axes, (0.5, 1.17), title, size=9.5, colour=INK)
        _write(axes, (0.5, 1.05), note, size=7, colour=FAINT)
    for first, last, name in STEPS:
        _heading(cells[0][first], cells[0][last], name)
    figure.text(LEFT / width, 0.09 / height, picture.caption, fontsize=7.5, color=FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _scales(picture: BudgetPicture) -> list[Scale]:
    """Return the scales of maps, mask, radius and, on grey images, perturbation."""
    low, high = (255 * radius for radius in picture.radii)
    scales = [
        Scale(1, 4, "magma", 0, 1, "normalised activation"),
        Scale(5, 5, "cividis", 0, 1, "weight"),
        Scale(6, 6, "viridis", low, high if high > low else low + 1, "grey levels"),
    ]
    if picture.x.shape[1] == 1:
        scales.append(Scale(7, 7, "RdBu_r", -high, high, "grey levels"))
    return scales


def _draw_row(axes: Sequence[Any], picture: BudgetPicture, row: int, scales: list[Scale]) -> None:
    maps, mask, radius, *signed = scales
    delta = picture.x_adv[row] - picture.x[row]
    _photograph(axes[0], picture.x[row])
    for column in range(3):
        maps.paint(axes[1 + column], picture.maps[column, row])
    maps.paint(axes[4], picture.ensemble[row])
    mask.paint(axes[5], picture.mask[row])
    radius.paint(axes[6], 255 * picture.epsilon[row, 0])
    if signed:
        signed[0].paint(axes[7], 255 * delta[0])
    else:
        _photograph(axes[7], 0.5 + delta / (2 * max(picture.radii)))
        if row == len(picture.x) - 1:
            _write(axes[7], (0.5, -0.12), f"grey ± {255 * max(picture.radii):.3g} levels", 6.5)
    _photograph(axes[8], picture.x_adv[row])
    for cell in axes:
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_visible(False)
    axes[0].set_ylabel(picture.truth[row], fontsize=9.5, color=INK, labelpad=7)
    _verdict(axes[0], picture.predicted[row], picture.truth[row])
    _verdict(axes[8], picture.predicted_adv[row], picture.truth[row])


def _photograph(axes: Any, x: Tensor) -> None:  # noqa: ANN401 - matplotlib
    array = np.clip(x.permute(1, 2, 0).numpy(), 0, 1)
    if array.shape[2] == 1:
        axes.imshow(array[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(array, interpolation="nearest")


def _verdict(axes: Any, predicted: str, truth: str) -> None:  # noqa: ANN401 - matplotlib
    right = predicted == truth
    sign, colour = ("✓", RIGHT) if right else ("✗", WRONG)
    _write(axes, (0.5, -0.12), f"{sign} {predicted}", size=8, colour=colour)


def _colour_bar(axes: Any, scale: Scale) -> None:  # noqa: ANN401 - matplotlib
    shown = ScalarMappable(Normalize(scale.low, scale.high), scale.colours)
    bar = axes.figure.colorbar(shown, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.set_ticks([scale.low, scale.high], labels=[f"{scale.low:.3g}", f"{scale.high:.3g}"])
    bar.ax.tick_params(labelsize=6.5, length=0, pad=2, labelcolor=FAINT)
    _write(axes, (0.5, -2.2), scale.unit, size=6.5, colour=FAINT)


def _heading(first: Any, last: Any, name: str) -> None:  # noqa: ANN401 - matplotlib
    """Write ``name`` over a rule that spans from one cell to another."""
    figure = first.figure
    left, right = first.get_position(), last.get_position()
    up = left.y1 + 0.42 / figure.get_figheight()
    figure.add_artist(Line2D([left.x0, right.x1], [up, up], color=FAINT, linewidth=0.6, alpha=0.6))
    above = up + 0.06 / figure.get_figheight()
    figure.text((left.x0 + right.x1) / 2, above, name, ha="center", fontsize=8.5, color=FAINT)


def _write(
    axes: Any,  # noqa: ANN401 - matplotlib
    at: tuple[float, float],
    text: str,
    size: float = 7.0,
    colour: str = FAINT,
) -> None:
    axes.annotate(text, at, xycoords="axes fraction", ha="center", fontsize=size, color=colour)
