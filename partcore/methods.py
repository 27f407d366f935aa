"""How a method perturbs a batch before the update: the table of training methods.

Each is a frozen callable from a batch to the images the network is updated on, with what a run
records of it. The caller puts the network in evaluation mode with frozen weights (defect 8, 9 of
the published code), so batch-norm statistics are counted by the update alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

import torch
from torch import Generator, Tensor

from domain import spec as s
from partcore import build
from partcore.attacks import InnerPgd, step_linf, uniform_in_ball
from partcore.budgets import Mask, pixel_budget
from partcore.cams import Ensemble, Readout, is_constant, read
from partcore.models import CamClassifier


@dataclass(frozen=True)
class Perturbed:
    """Images to update on, and figures to record."""

    x: Tensor
    """(N, C, H, W), in [0, 1]."""
    record: Mapping[str, float]


class Perturbation(Protocol):
    """A method's way from a batch to what the network is updated on."""

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Generator
    ) -> Perturbed:
        """x: (N, C, H, W) in [0, 1]; y: (N,)."""
        ...


@dataclass(frozen=True)
class Clean:
    """Standard training: the images themselves."""

    def __call__(
        self,
        model: CamClassifier,  # noqa: ARG002
        x: Tensor,
        y: Tensor,  # noqa: ARG002
        *,
        generator: Generator,  # noqa: ARG002
    ) -> Perturbed:
        """See Perturbation."""
        return Perturbed(x, {})


@dataclass(frozen=True)
class Uniform:
    """PGD adversarial training at one radius (Madry et al., 2018)."""

    attack: InnerPgd
    epsilon: float

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Generator
    ) -> Perturbed:
        """See Perturbation."""
        return Perturbed(self.attack(model, x, y, self.epsilon, generator=generator), {})


@dataclass(frozen=True)
class Reweighted:
    """PART and PART++: maps, mask S (Eq. 7), radius a pixel (Eq. 8), PGD inside it (Alg. 1, 2).

    The maps are read on the very tensor that is attacked, never cached by batch (defect 1).
    """

    attack: InnerPgd
    maps: Ensemble
    mask: Mask
    epsilon_high: float
    epsilon_low: float

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Generator
    ) -> Perturbed:
        """See Perturbation."""
        epsilon, record = self.budget(read(model, x, y))
        return Perturbed(self.attack(model, x, y, epsilon, generator=generator), record)

    def budget(self, readout: Readout) -> tuple[Tensor, dict[str, float]]:
        """Return the radius of every pixel, (N, 1, H, W), and what to record of it."""
        heat = self.maps(readout)
        mask = self.mask(heat)
        epsilon = pixel_budget(mask, epsilon_high=self.epsilon_high, epsilon_low=self.epsilon_low)
        constant = is_constant(heat).float().mean().item()
        return epsilon, {"cam/constant_fraction": constant, **describe(mask, epsilon)}


@dataclass(frozen=True)
class ReweightedAtStart(Reweighted):
    """The same with the maps read at the random start, from the attack's own first pass.

    Deviation: the start is drawn in the ball of ``epsilon_high``, and the first gradient is taken
    there, before the point is brought into its pixels' radii. Costs no pass beside plain PGD.
    """

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Generator
    ) -> Perturbed:
        """See Perturbation."""
        with torch.enable_grad():
            start = uniform_in_ball(x, self.epsilon_high, generator).requires_grad_()
            features = model.features(start)
            loss = self.attack.loss(model.head(features), y).sum()
            (gradient,) = torch.autograd.grad(loss, start)
        start = start.detach()
        epsilon, record = self.budget(Readout(model, start, features.detach(), y))
        first = step_linf(start, gradient, x, epsilon, step_size=self.attack.step_size)
        rest = InnerPgd(
            step_size=self.attack.step_size,
            num_steps=self.attack.num_steps - 1,
            loss=self.attack.loss,
        )
        return Perturbed(rest.climb(model, first, x, y, epsilon), record)


def describe(mask: Tensor, epsilon: Tensor) -> dict[str, float]:
    """Return means and quantiles of S and of the radii, over all pixels of the batch."""
    levels = torch.tensor([0.1, 0.5, 0.9], device=mask.device)
    figures = {
        "mask/saturated_high": (mask > 0.95).float().mean().item(),
        "mask/saturated_low": (mask < 0.05).float().mean().item(),
    }
    for name, values in (("mask", mask), ("epsilon", epsilon)):
        flat = values.flatten()[: 2**24]
        figures[f"{name}/mean"] = flat.mean().item()
        figures[f"{name}/std"] = flat.std(correction=0).item()
        low, middle, high = flat.quantile(levels).tolist()
        figures |= {f"{name}/q10": low, f"{name}/q50": middle, f"{name}/q90": high}
    return figures


def perturbation(method: s.Method, epoch: int) -> Perturbation:
    """Return what a method does in an epoch (from 0): warm-up is plain PGD-AT at epsilon_high."""
    match method:
        case s.Standard():
            return Clean()
        case s.PgdAt():
            return Uniform(build.inner_attack(method.attack), float(method.epsilon))
        case s.Part() if epoch < method.warmup_epochs:
            return Uniform(build.inner_attack(method.attack), float(method.epsilon_high))
        case s.Part():
            kind = Reweighted if method.cam.read_at == "image" else ReweightedAtStart
            return kind(
                attack=build.inner_attack(method.attack),
                maps=build.ensemble(method.cam),
                mask=build.mask(method.mask),
                epsilon_high=float(method.epsilon_high),
                epsilon_low=float(method.epsilon_low),
            )
        case _:
            assert_never(method)
