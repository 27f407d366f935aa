"""What attacks climb and training descends."""

from partcore.objectives.cross_entropy import cross_entropy
from partcore.objectives.margin import margin

__all__ = ["cross_entropy", "margin"]
