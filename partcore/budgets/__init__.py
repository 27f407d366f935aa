"""From a heatmap to a radius for every pixel."""

from partcore.budgets.centred_sigmoid import CentredSigmoid
from partcore.budgets.min_max import MinMax
from partcore.budgets.pixel_budget import pixel_budget
from partcore.budgets.sigmoid_mean import SigmoidMean
from partcore.budgets.sigmoid_min_max import SigmoidMinMax
from partcore.budgets.unit_range import Mask, unit_range

__all__ = [
    "CentredSigmoid",
    "Mask",
    "MinMax",
    "SigmoidMean",
    "SigmoidMinMax",
    "pixel_budget",
    "unit_range",
]
