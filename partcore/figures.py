"""The picture of a PART++ step: image, maps, mask, radii, perturbation, adversarial image."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

mpl.rcParams["font.family"] = "DejaVu Sans"
INK, FAINT = "#1b1f24", "#6b7280"
COLUMNS = (
    ("image", "x"),
    ("Grad-CAM", "Eq. 4"),
    ("Grad-CAM++", "Eq. 5"),
    ("Score-CAM", "softmax scores"),
    ("ensemble M", "Eq. 9"),
    ("mask S", "Eq. 7"),
    ("radius ε_w", "Eq. 8, grey levels"),
    ("perturbation δ", "grey levels"),
    ("adversarial", "x + δ"),
)


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


def draw(picture: BudgetPicture) -> bytes:
    """Return the figure as PNG bytes."""
    rows = len(picture.x)
    figure = Figure(figsize=(13.2, 1.42 * rows + 1.15), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.72 / (1.42 * rows + 1.15)
    bottom = 0.36 / (1.42 * rows + 1.15)
    grid = figure.subplots(
        rows,
        len(COLUMNS),
        squeeze=False,
        gridspec_kw={
            "left": 0.045,
            "right": 0.995,
            "top": top,
            "bottom": bottom,
            "wspace": 0.08,
            "hspace": 0.2,
        },
    )
    for row in range(rows):
        _draw_row(grid[row], picture, row)
    for axes, (title, note) in zip(grid[0], COLUMNS, strict=True):
        axes.annotate(
            title, (0.5, 1.24), xycoords="axes fraction", ha="center", fontsize=9.5, color=INK
        )
        axes.annotate(
            note, (0.5, 1.09), xycoords="axes fraction", ha="center", fontsize=7, color=FAINT
        )
    _colour_bars(grid[-1], picture)
    figure.text(0.045, 0.012, picture.caption, fontsize=7.5, color=FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_row(axes: Any, picture: BudgetPicture, row: int) -> None:  # noqa: ANN401 - matplotlib
    low, high = (255 * r for r in picture.radii)
    pixels = "nearest"
    delta = 255 * (picture.x_adv[row] - picture.x[row])
    _image(axes[0], picture.x[row])
    for column in range(3):
        axes[1 + column].imshow(picture.maps[column, row].numpy(), cmap="magma", vmin=0, vmax=1)
    axes[4].imshow(picture.ensemble[row].numpy(), cmap="magma", vmin=0, vmax=1)
    axes[5].imshow(picture.mask[row].numpy(), cmap="cividis", vmin=0, vmax=1, interpolation=pixels)
    axes[6].imshow(
        255 * picture.epsilon[row, 0].numpy(),
        cmap="viridis",
        vmin=low,
        vmax=high if high > low else low + 1,
        interpolation=pixels,
    )
    if delta.shape[0] == 1:
        axes[7].imshow(delta[0].numpy(), cmap="RdBu_r", vmin=-high, vmax=high, interpolation=pixels)
    else:
        _image(axes[7], 0.5 + delta / (2 * high))
    _image(axes[8], picture.x_adv[row])
    for cell in axes:
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_visible(False)
    axes[0].set_ylabel(picture.truth[row], fontsize=9, color=INK, labelpad=6)
    _verdict(axes[0], picture.predicted[row], picture.truth[row])
    _verdict(axes[8], picture.predicted_adv[row], picture.truth[row])


def _image(axes: Any, x: Tensor) -> None:  # noqa: ANN401 - matplotlib
    array = np.clip(x.permute(1, 2, 0).numpy(), 0, 1)
    if array.shape[2] == 1:
        axes.imshow(array[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(array, interpolation="nearest")


def _verdict(axes: Any, predicted: str, truth: str) -> None:  # noqa: ANN401 - matplotlib
    right = predicted == truth
    axes.set_xlabel(
        f"{'✓' if right else '✗'} {predicted}",
        fontsize=7.5,
        color="#15803d" if right else "#b91c1c",
        labelpad=2,
    )


def _colour_bars(axes: Any, picture: BudgetPicture) -> None:  # noqa: ANN401 - matplotlib
    low, high = (255 * r for r in picture.radii)
    told = {
        1: "0 to 1",
        2: "0 to 1",
        3: "0 to 1",
        4: "0 to 1",
        5: "0 to 1",
        6: f"{low:.3g} to {high:.3g}",
        7: f"±{high:.3g}",
    }
    for column, text in told.items():
        axes[column].set_xlabel(text, fontsize=7, color=FAINT, labelpad=2)
