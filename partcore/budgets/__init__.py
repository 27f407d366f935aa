"""From a heatmap to a radius for every pixel."""

from partcore.budgets.centred_mean import CentredMean
from partcore.budgets.centred_sigmoid import CentredSigmoid
from partcore.budgets.controls import Blurred, Control, Flat, Inverted, Shuffled
from partcore.budgets.geometric import Geometric
from partcore.budgets.matching import with_mean
from partcore.budgets.min_max import MinMax
from partcore.budgets.official_jet import OfficialJet
from partcore.budgets.pixel_budget import pixel_budget
from partcore.budgets.quantile import Quantile
from partcore.budgets.sigmoid_mean import SigmoidMean
from partcore.budgets.sigmoid_min_max import SigmoidMinMax
from partcore.budgets.threshold import Threshold
from partcore.budgets.unit_range import Mask, unit_range
from partcore.budgets.z_score import ZScore

__all__ = [
    "Blurred",
    "CentredMean",
    "CentredSigmoid",
    "Control",
    "Flat",
    "Geometric",
    "Inverted",
    "Mask",
    "MinMax",
    "OfficialJet",
    "Quantile",
    "Shuffled",
    "SigmoidMean",
    "SigmoidMinMax",
    "Threshold",
    "ZScore",
    "pixel_budget",
    "unit_range",
    "with_mean",
]
