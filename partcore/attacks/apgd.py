"""AutoPGD (Croce & Hein, ICML 2020, https://arxiv.org/abs/2003.01690), l-infinity.

The maths is that of the authors' code, sample for sample; here an image leaves the batch as soon as
it is broken, which cannot change what is broken, and costs what the survivors cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from partcore.attacks.aim import TargetedLoss, likeliest, towards
from partcore.attacks.attempt import Attempt, at, begin_at
from partcore.attacks.project import LogitsOf, Loss, input_gradient, project_linf
from partcore.objectives import cross_entropy

DECAY = 0.75
"""rho: a step is halved where fewer of the last steps than this share climbed."""
MOMENTUM = 0.75
"""alpha: share of the new direction in a step, the first apart."""


@dataclass(frozen=True)
class Climber:
    """Where each survivor stands; every tensor begins with N."""

    index: Tensor
    """Place in the batch, (N,)."""
    x_adv: Tensor
    x_before: Tensor
    gradient: Tensor
    step: Tensor
    """In radii, (N, 1, 1, 1)."""
    loss: Tensor
    best_x: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    best_loss_at_check: Tensor
    reduced_at_check: Tensor
    """(N,) bool."""
    rises: Tensor
    """Steps since the last check that raised the loss, (N,)."""

    def only(self, kept: Tensor) -> "Climber":
        """Return the samples where ``kept`` (N,) is true."""
        return Climber(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True, kw_only=True)
class Apgd:
    """APGD on a loss of the logits, or towards the ``rank``-th likeliest wrong class."""

    num_steps: int = 100
    loss: Loss = cross_entropy
    targeted: TargetedLoss | None = None
    """Loss to climb instead, with a target."""
    rank: int = 0
    draws: int = 1
    """Passes a gradient is the mean of: 20 for randomised networks (`rand`)."""

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack. Raises ValueError without a wrong class of that rank."""
        loss_of = self._losses(logits_of, x, y)
        sup = start.flatten(1).abs().amax(dim=1)[:, None, None, None]
        attempt = begin_at(x, epsilon, start / (sup + 1e-12))
        x_adv, broken = attempt.x_adv.clone(), attempt.broken.clone()
        everyone = torch.arange(len(x), device=x.device)
        gradient, logits, losses = self._look(loss_of(everyone), logits_of, x_adv, y)
        zero = gradient.flatten(1).abs().amax(dim=1) == 0
        broken |= logits.argmax(dim=1) != y
        now = _first(everyone, x_adv, gradient, losses).only(~broken)
        check, since = max(int(0.22 * self.num_steps), 1), 0
        for step in range(self.num_steps):
            if now.index.numel() == 0:
                break
            now = self._move(now, x[now.index], at(now.index, epsilon), first=step == 0)
            labels = y[now.index]
            gradient, logits, losses = self._look(loss_of(now.index), logits_of, now.x_adv, labels)
            fell = logits.argmax(dim=1) != labels
            x_adv[now.index] = now.x_adv
            broken[now.index[fell]] = True
            now = _climbed(now, gradient, losses).only(~fell)
            since += 1
            if since == check:
                now = _checked(now, since)
                check = max(check - max(int(0.03 * self.num_steps), 1), self._least)
                since = 0
        x_adv[now.index] = now.best_x
        return Attempt(x_adv, broken, zero)

    @property
    def _least(self) -> int:
        return max(int(0.06 * self.num_steps), 1)

    def _losses(self, logits_of: LogitsOf, x: Tensor, y: Tensor) -> Callable[[Tensor], Loss]:
        if self.targeted is None:
            return lambda _: self.loss
        return towards(self.targeted, likeliest(logits_of, x, y, self.rank))

    def _look(
        self, loss: Loss, logits_of: LogitsOf, x_adv: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean gradient of ``draws`` passes, and logits and loss of the last."""
        total = torch.zeros_like(x_adv)
        for _ in range(self.draws):
            gradient, logits = input_gradient(loss, logits_of, x_adv, y)
            total += gradient
        return total / self.draws, logits, loss(logits, y)

    def _move(self, now: Climber, x: Tensor, epsilon: Tensor | float, *, first: bool) -> Climber:
        """One step of the gradient's sign, with momentum."""
        share = 1.0 if first else MOMENTUM
        along = project_linf(now.x_adv + now.step * epsilon * now.gradient.sign(), x, epsilon)
        moved = now.x_adv + (along - now.x_adv) * share
        moved = moved + (now.x_adv - now.x_before) * (1 - share)
        return replace(now, x_adv=project_linf(moved, x, epsilon), x_before=now.x_adv)


def _first(index: Tensor, x_adv: Tensor, gradient: Tensor, loss: Tensor) -> Climber:
    nothing = torch.zeros_like(loss)
    return Climber(
        index=index,
        x_adv=x_adv.clone(),
        x_before=x_adv.clone(),
        gradient=gradient,
        step=torch.full_like(loss, 2.0)[:, None, None, None],
        loss=nothing,  # the authors' first step counts as a rise where it ends above 0
        best_x=x_adv.clone(),
        best_gradient=gradient,
        best_loss=loss,
        best_loss_at_check=loss,
        reduced_at_check=torch.ones_like(loss, dtype=torch.bool),
        rises=nothing,
    )


def _climbed(now: Climber, gradient: Tensor, loss: Tensor) -> Climber:
    """Note a step's gradient and loss, and the best point so far."""
    better = loss > now.best_loss
    wide = better[:, None, None, None]
    return replace(
        now,
        gradient=gradient,
        loss=loss,
        rises=now.rises + (loss > now.loss),
        best_x=torch.where(wide, now.x_adv, now.best_x),
        best_gradient=torch.where(wide, gradient, now.best_gradient),
        best_loss=torch.where(better, loss, now.best_loss),
    )


def _checked(now: Climber, steps: int) -> Climber:
    """Halve the step and go back to the best point where the last ``steps`` did not climb."""
    oscillates = now.rises <= steps * DECAY
    stands_still = ~now.reduced_at_check & (now.best_loss_at_check >= now.best_loss)
    reduce = oscillates | stands_still
    wide = reduce[:, None, None, None]
    return replace(
        now,
        step=torch.where(wide, now.step / 2, now.step),
        x_adv=torch.where(wide, now.best_x, now.x_adv),
        gradient=torch.where(wide, now.best_gradient, now.gradient),
        best_loss_at_check=now.best_loss,
        reduced_at_check=reduce,
        rises=torch.zeros_like(now.rises),
    )
