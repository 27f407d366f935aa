"""Which wrong class a targeted attack goes for."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.attacks.project import LogitsOf, Loss

TargetedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (N, classes), labels (N,) and targets (N,) to a loss each, (N,)."""


@torch.no_grad()
def likeliest(logits_of: LogitsOf, x: Tensor, y: Tensor, rank: int) -> Tensor:
    """Return the wrong class with the ``rank``-th highest logit, 0 the highest; (N,).

    Raises ValueError where there are not so many wrong classes.
    """
    logits = logits_of(x)
    if rank >= logits.shape[1] - 1:
        raise ValueError(f"{rank + 1} wrong classes need {rank + 2} classes, not {logits.shape[1]}")
    own = F.one_hot(y, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).topk(rank + 1, dim=1).indices[:, rank]


def towards(loss: TargetedLoss, target: Tensor) -> Callable[[Tensor], Loss]:
    """Return, for a subset of the batch, its loss with the targets of that subset."""

    def of(selected: Tensor) -> Loss:
        aim = target[selected]
        return lambda logits, y: loss(logits, y, aim)

    return of


def lead(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_t - z_y, (N,): what the minimum-margin and multi-targeted attacks climb."""
    return logits.gather(1, target[:, None])[:, 0] - logits.gather(1, y[:, None])[:, 0]


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein, 2020, Eq. 6), (N,); needs three classes.

    -(z_y - max_{j != y} z_j) / (z_1st - z_3rd): no scale of the logits changes it.
    """
    order = logits.sort(dim=1, descending=True)
    own = logits.gather(1, y[:, None])[:, 0]
    is_first = order.indices[:, 0] == y
    other = torch.where(is_first, order.values[:, 1], order.values[:, 0])
    return -(own - other) / (order.values[:, 0] - order.values[:, 2] + 1e-12)


def dlr_towards(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Targeted DLR (Croce & Hein, 2020, Eq. 7), (N,); needs four classes."""
    order = logits.sort(dim=1, descending=True).values
    scale = order[:, 0] - (order[:, 2] + order[:, 3]) / 2
    return lead(logits, y, target) / (scale + 1e-12)
