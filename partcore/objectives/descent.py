"""What an update descends: the objectives of the family.

Each is a frozen callable that runs the network in the mode the caller put it in, clean images at
most once, so that batch-norm statistics are counted once a pass (defect 8 of the published code).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from partcore.objectives.cross_entropy import cross_entropy
from partcore.objectives.kl import kl_divergence

LogitsOf = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Descent:
    """The value of an objective."""

    loss: Tensor
    """(N,), a sample each."""
    logits_adv: Tensor
    """(N, classes), on the perturbed images."""


class Objective(Protocol):
    """An objective of training."""

    def __call__(self, logits_of: LogitsOf, x: Tensor, x_adv: Tensor, y: Tensor) -> Descent:
        """x, x_adv: (N, C, H, W) in [0, 1]; y: (N,)."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy on what the method made of the images (Madry et al., 2018)."""

    def __call__(
        self,
        logits_of: LogitsOf,
        x: Tensor,  # noqa: ARG002
        x_adv: Tensor,
        y: Tensor,
    ) -> Descent:
        """See Objective."""
        logits_adv = logits_of(x_adv)
        return Descent(cross_entropy(logits_adv, y), logits_adv)


@dataclass(frozen=True)
class Trades:
    """CE(x) + beta KL(p(x) || p(x_adv)) (Zhang et al., ICML 2019, https://arxiv.org/abs/1901.08573).

    The gradient goes through both predictions, as in the authors' code.
    """

    beta: float

    def __call__(self, logits_of: LogitsOf, x: Tensor, x_adv: Tensor, y: Tensor) -> Descent:
        """See Objective."""
        logits, logits_adv = logits_of(x), logits_of(x_adv)
        divergence = kl_divergence(logits_adv, logits.softmax(dim=1))
        return Descent(cross_entropy(logits, y) + self.beta * divergence, logits_adv)


@dataclass(frozen=True)
class Mart:
    """BCE(x_adv) + beta KL(p(x) || p(x_adv)) (1 - p_y(x)) (Wang et al., ICLR 2020).

    BCE = -log p_y(x_adv) - log(1 - max_{k != y} p_k(x_adv)).
    """

    beta: float

    def __call__(self, logits_of: LogitsOf, x: Tensor, x_adv: Tensor, y: Tensor) -> Descent:
        """See Objective."""
        logits, logits_adv = logits_of(x), logits_of(x_adv)
        likely = logits.softmax(dim=1)
        own = likely.gather(1, y[:, None])[:, 0]
        divergence = kl_divergence(logits_adv, likely)
        loss = boosted_cross_entropy(logits_adv, y) + self.beta * divergence * (1 - own)
        return Descent(loss, logits_adv)


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log p_y - log(1 - max_{k != y} p_k), per sample. logits: (N, classes); y: (N,)."""
    log_likely = logits.log_softmax(dim=1)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y[:, None], True)  # noqa: FBT003
    rival = log_likely.masked_fill(own, -torch.inf).amax(dim=1)
    # log(1 - p) without cancellation near p = 1
    return -log_likely.gather(1, y[:, None])[:, 0] - torch.log(-torch.expm1(rival).clamp(max=-1e-7))


@dataclass(frozen=True)
class LogitPairing:
    """Mean of CE(x) and CE(x_adv), + weight mean_j (z_j(x) - z_j(x_adv))² (Kannan et al., 2018).

    https://arxiv.org/abs/1803.06373, with its mixed minibatch of clean and adversarial images.
    """

    weight: float

    def __call__(self, logits_of: LogitsOf, x: Tensor, x_adv: Tensor, y: Tensor) -> Descent:
        """See Objective."""
        logits, logits_adv = logits_of(x), logits_of(x_adv)
        both = (cross_entropy(logits, y) + cross_entropy(logits_adv, y)) / 2
        distance = (logits - logits_adv).square().mean(dim=1)
        return Descent(both + self.weight * distance, logits_adv)
