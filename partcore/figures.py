"""The picture of a method at work: a column for each panel, a row for each image."""

import io
import textwrap
from collections.abc import Mapping, Sequence
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

from domain.pictures import Heading, Panel, Shows

mpl.rcParams["font.family"] = "DejaVu Sans"
INK, FAINT, RIGHT, WRONG = "#1b1f24", "#6b7280", "#15803d", "#b91c1c"
CELL, LEFT, GAP, TOP, BOTTOM = 1.3, 0.75, 0.09, 0.92, 0.62
"""Inches: a cell's side, the margin of row names, and what separates and surrounds the cells."""
LINE, LETTER = 0.13, 0.06
"""Inches of the caption: a line's height, a letter's mean width."""


@dataclass(frozen=True)
class Picture:
    """What one row for each image is drawn from; all on the CPU."""

    panels: Sequence[Panel]
    headings: Sequence[Heading]
    x: Tensor
    """(N, C, H, W), in [0, 1]."""
    values: Sequence[Tensor]
    """What each panel between the image and the perturbation shows, (N, H, W), in [0, 1]."""
    x_adv: Tensor
    """(N, C, H, W)."""
    truth: Sequence[str]
    predicted: Sequence[str]
    predicted_adv: Sequence[str]
    radii: tuple[float, float]
    """The lowest and the highest radius there may be, in [0, 1]."""
    caption: str


@dataclass(frozen=True)
class Scale:
    """How a column's values become colours; the columns that share one share its bar."""

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


def draw(picture: Picture) -> bytes:
    """Return the figure as PNG bytes, one row for each image."""
    rows, columns = len(picture.x), len(picture.panels)
    width = LEFT + columns * (CELL + GAP)
    lines = textwrap.wrap(picture.caption, int((width - LEFT) / LETTER))
    height = TOP + rows * (CELL + 3 * GAP) + BOTTOM + LINE * len(lines)
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
    for scale in dict.fromkeys(scales.values()):
        at = [column for column, own in scales.items() if own == scale]
        bar = place(rows + 0.03, at[0] + 0.06, at[-1] - at[0] + 0.88, 0.07)
        _colour_bar(bar, scale)
    for axes, panel in zip(cells[0], picture.panels, strict=True):
        _write(axes, (0.5, 1.17), panel.title, size=9.5, colour=INK)
        _write(axes, (0.5, 1.05), panel.note, size=7, colour=FAINT)
    for heading in picture.headings:
        _heading(cells[0][heading.first], cells[0][heading.last], heading.text)
    figure.text(LEFT / width, 0.09 / height, "\n".join(lines), fontsize=7.5, color=FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _scales(picture: Picture) -> dict[int, Scale]:
    """Return the scale of each column that has one; on colour images the perturbation has none."""
    low, high = (255 * radius for radius in picture.radii)
    heat = Scale("magma", 0, 1, "normalised activation")
    weight = Scale("cividis", 0, 1, "weight")
    radius = Scale("viridis", low, high if high > low else low + 1, "grey levels")
    signed = Scale("RdBu_r", -(high or 1), high or 1, "grey levels")
    by_panel: Mapping[Shows, Scale] = {
        **{"map": heat, "ensemble": heat, "mask": weight, "control": weight, "matched": weight},
        "radius": radius,
        **({"perturbation": signed} if picture.x.shape[1] == 1 else {}),
    }
    shown = ((column, panel.shows) for column, panel in enumerate(picture.panels))
    return {column: by_panel[shows] for column, shows in shown if shows in by_panel}


def _draw_row(axes: Sequence[Any], picture: Picture, row: int, scales: Mapping[int, Scale]) -> None:
    delta = picture.x_adv[row] - picture.x[row]
    _photograph(axes[0], picture.x[row])
    for column, values in enumerate(picture.values, start=1):
        levels = 255 if picture.panels[column].shows == "radius" else 1
        scales[column].paint(axes[column], levels * values[row])
    *_, perturbation, adversarial = axes
    if (signed := scales.get(len(axes) - 2)) is not None:
        signed.paint(perturbation, 255 * delta[0])
    else:
        radius = max(picture.radii)
        _photograph(perturbation, 0.5 + delta / (2 * radius or 1))
        if row == len(picture.x) - 1:
            shown = f"grey is 0, full is {255 * radius:.3g} levels"
            _write(perturbation, (0.5, -0.12), shown, 6.5)
    _photograph(adversarial, picture.x_adv[row])
    for cell in axes:
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_visible(False)
    axes[0].set_ylabel(picture.truth[row], fontsize=9.5, color=INK, labelpad=7)
    _verdict(axes[0], picture.predicted[row], picture.truth[row])
    _verdict(adversarial, picture.predicted_adv[row], picture.truth[row])


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
