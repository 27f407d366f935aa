"""One step down: precision, micro-batches, ranks and weight perturbation in one place."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from domain.errors import ExperimentError
from partcore.awp import perturbed_weights
from partcore.models import CamClassifier
from partcore.objectives import Objective
from partcore.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Batch:
    """A rank's share of a batch, perturbed."""

    x: Tensor
    x_adv: Tensor
    y: Tensor
    whole: int
    """Samples of the batch on all ranks."""

    def parts(self, count: int) -> Iterator["Batch"]:
        """Yield ``count`` micro-batches, fewer if there are fewer images."""
        pieces = (t.tensor_split(min(count, len(self.y))) for t in (self.x, self.x_adv, self.y))
        for x, x_adv, y in zip(*pieces, strict=True):
            yield Batch(x, x_adv, y, self.whole)


@dataclass(frozen=True)
class Stepped:
    """What a step saw, over the whole batch."""

    loss: float
    accuracy: float
    """On the perturbed images, in training mode."""


class Update:
    """Takes optimiser steps on perturbed batches.

    The gradient is that of the mean loss over the batch, however many micro-batches and ranks share
    it; batch norm normalises by micro-batch.
    """

    def __init__(
        self,
        model: CamClassifier,
        optimiser: torch.optim.Optimizer,
        objective: Objective,
        *,
        dtype: torch.dtype = torch.float32,
        parts: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.optimiser, self.objective = model, optimiser, objective
        self.dtype, self.parts, self.ranks = dtype, parts, ranks
        self.device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=dtype == torch.float16)

    def __call__(self, batch: Batch, *, awp: float | None = None) -> Stepped:
        """Step; ``awp``: gamma of adversarial weight perturbation, or None.

        Raises ExperimentError when the loss is not finite.
        """
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self._weights_under_attack(batch, awp):
            stepped = self.backward(batch)
        if not torch.isfinite(torch.tensor(stepped.loss)):
            rate = self.optimiser.param_groups[0]["lr"]
            raise ExperimentError(
                f"the loss is {stepped.loss}; lower training.learning_rate (it is now {rate:.4g})"
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.ranks.follow_first(self.model.buffers())
        return stepped

    def backward(self, batch: Batch) -> Stepped:
        """Leave the gradient of the mean loss in the weights, the same on every rank."""
        figures = torch.zeros(2, dtype=torch.float64)
        for part in batch.parts(self.parts):
            with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
                descent = self.objective(self.model, part.x, part.x_adv, part.y)
                loss = descent.loss.float() if self.dtype != torch.float32 else descent.loss
            self.scaler.scale(loss.sum() / batch.whole).backward()  # type: ignore[no-untyped-call]
            right = (descent.logits_adv.argmax(dim=1) == part.y).sum()
            figures += torch.stack([loss.detach().sum(), right]).double().cpu() / batch.whole
        figures = figures.to(part.x.device) if self.ranks.size > 1 else figures
        self.ranks.sum([*self._gradients(), figures])
        return Stepped(*figures.tolist())

    def _gradients(self) -> Iterator[Tensor]:
        # A head that no sample reached on one rank still takes part in the sum.
        for weight in self.model.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            yield weight.grad

    def _weights_under_attack(
        self, batch: Batch, gamma: float | None
    ) -> AbstractContextManager[None]:
        if gamma is None:
            return nullcontext()
        return perturbed_weights(self.model, lambda: self.backward(batch), gamma=gamma)
