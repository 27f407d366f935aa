"""What each recorded series measures: its chart, its unit and its label.

The one table that the pages, the API and the `part` command read. A name that is not here (a run of
a later version) lands in the chart `other`, as a plain number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

UnitName = Literal["share", "radius", "steps", "epochs", "number"]


@dataclass(frozen=True)
class Unit:
    """How values are written; they are stored unscaled."""

    name: UnitName
    factor: float = 1.0
    """What a stored value is multiplied by."""
    title: str = ""
    """What the product is in, as an axis says it."""


SHARE = Unit("share", 100.0, "%")
RADIUS = Unit("radius", 255.0, "grey levels of 255")
STEPS = Unit("steps", title="steps")
EPOCHS = Unit("epochs", title="epochs")
NUMBER = Unit("number")


@dataclass(frozen=True)
class Chart:
    """Series that are drawn over the same axes."""

    name: str
    what: str
    unit: Unit = NUMBER

    @property
    def title(self) -> str:
        """What the chart shows, and in which unit."""
        return f"{self.what}, {self.unit.title}" if self.unit.title else self.what


@dataclass(frozen=True)
class Measure:
    """What a series measures."""

    chart: Chart
    label: str
    """Which of the chart's lines it is."""


ACCURACY = Chart("accuracy", "Accuracy", SHARE)
LOSS = Chart("loss", "Training loss")
LEARNING_RATE = Chart("learning-rate", "Learning rate")
RADII = Chart("radius", "Pixel radius", RADIUS)
MASK = Chart("mask", "Mask S, from 0 to 1")
SATURATION = Chart("saturation", "Pixels where the mask is saturated", SHARE)
CONSTANT = Chart("constant-maps", "Images with a constant map", SHARE)
FIDELITY = Chart("fidelity", "Budgets under estimated and exact Score-CAM, correlation")
ENSEMBLE = Chart("ensemble", "Weights of the ensemble's members", SHARE)
MASKED_LOSS = Chart("masked-loss", "Loss that the ensemble learns from")
RECOMPUTED = Chart("recomputed", "Kept maps that were renewed", SHARE)
AGE = Chart("age", "Age of kept maps", STEPS)
OVERLAP = Chart("overlap", "Overlap of renewed maps with kept ones, IoU")
REFRESH = Chart("refresh", "Interval between renewals of a map", EPOCHS)
OTHER = Chart("other", "Other")
CHARTS = (
    *(ACCURACY, LOSS, RADII, MASK, SATURATION, CONSTANT, FIDELITY, ENSEMBLE, MASKED_LOSS),
    *(RECOMPUTED, AGE, OVERLAP, REFRESH, LEARNING_RATE, OTHER),
)
"""In the order in which a page shows them."""

_DISTRIBUTION: Mapping[str, str] = {
    "mean": "mean",
    "std": "standard deviation",
    "q10": "10 % quantile",
    "q50": "median",
    "q90": "90 % quantile",
}
_VALIDATION: Mapping[str, str] = {"accuracy": "clean", "fgsm": "FGSM", "robust_accuracy": "PGD-10"}

SERIES: Mapping[str, Measure] = {
    "train/accuracy": Measure(ACCURACY, "training, clean"),
    "train/adversarial_accuracy": Measure(ACCURACY, "training, attacked"),
    **{f"val/{k}": Measure(ACCURACY, f"held out, {v}") for k, v in _VALIDATION.items()},
    **{
        f"val/ema/{k}": Measure(ACCURACY, f"held out, {v}, averaged weights")
        for k, v in _VALIDATION.items()
    },
    "train/loss": Measure(LOSS, "loss"),
    "train/learning_rate": Measure(LEARNING_RATE, "learning rate"),
    **{f"epsilon/{k}": Measure(RADII, v) for k, v in _DISTRIBUTION.items()},
    **{f"mask/{k}": Measure(MASK, v) for k, v in _DISTRIBUTION.items()},
    "mask/saturated_high": Measure(SATURATION, "S > 0.95"),
    "mask/saturated_low": Measure(SATURATION, "S < 0.05"),
    "cam/constant_fraction": Measure(CONSTANT, "constant maps"),
    "cam/fidelity": Measure(FIDELITY, "correlation"),
    "cam/masked_loss": Measure(MASKED_LOSS, "loss on the masked image"),
    "cam/recomputed": Measure(RECOMPUTED, "renewed"),
    "cam/age_steps": Measure(AGE, "mean age"),
    "cam/overlap": Measure(OVERLAP, "mean IoU"),
    "cam/refresh_epochs": Measure(REFRESH, "interval"),
}
MEMBERS = "cam/share/"
"""Beginning of the names of one series a member of a learned ensemble."""


def measure(name: str) -> Measure:
    """Return what a series measures."""
    if name.startswith(MEMBERS):
        return Measure(ENSEMBLE, name.removeprefix(MEMBERS))
    return SERIES.get(name) or Measure(OTHER, name)
