"""PGD on the margin: Carlini & Wagner's loss under l-infinity (https://arxiv.org/abs/1608.04644)."""

from dataclasses import dataclass

from partcore.attacks.pgd import Pgd
from partcore.attacks.project import Loss
from partcore.objectives import margin


@dataclass(frozen=True, kw_only=True)
class Cw(Pgd):
    """PGD that climbs max_{j != y} z_j - z_y: it does not fade when the softmax saturates."""

    loss: Loss = margin
