"""What attacks climb and training descends."""

from partcore.objectives.cross_entropy import cross_entropy
from partcore.objectives.descent import (
    CrossEntropy,
    Descent,
    LogitPairing,
    Mart,
    Objective,
    Trades,
    boosted_cross_entropy,
)
from partcore.objectives.kl import kl_divergence
from partcore.objectives.margin import margin

__all__ = [
    "CrossEntropy",
    "Descent",
    "LogitPairing",
    "Mart",
    "Objective",
    "Trades",
    "boosted_cross_entropy",
    "cross_entropy",
    "kl_divergence",
    "margin",
]
