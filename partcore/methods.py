"""How a method perturbs a batch before the update: the table of training methods.

Each is a frozen callable from a batch to the images the network is updated on, with what a run
records of it. The caller puts the network in evaluation mode with frozen weights (defect 8, 9 of
the published code), so batch-norm statistics are counted by the update alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import torch
from torch import Tensor

from domain import spec as s
from domain.scheduled import at
from partcore import build
from partcore.attacks import InnerPgd, step_linf, uniform_in_ball
from partcore.budgets import Control, Mask, pixel_budget, with_mean
from partcore.cams import Combiner, Maps, Readout, is_constant, read
from partcore.map_cache import CachedMaps
from partcore.models import CamClassifier
from partcore.objectives import kl_divergence
from partcore.randomness import Randomness


@dataclass(frozen=True)
class Perturbed:
    """Images to update on, and figures to record."""

    x: Tensor
    """(N, C, H, W), in [0, 1]."""
    record: Mapping[str, float]


class Perturbation(Protocol):
    """A method's way from a batch to what the network is updated on."""

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Randomness
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
        generator: Randomness,  # noqa: ARG002
    ) -> Perturbed:
        """See Perturbation."""
        return Perturbed(x, {})


@dataclass(frozen=True)
class Uniform:
    """PGD adversarial training at one radius (Madry et al., 2018)."""

    attack: InnerPgd
    epsilon: float

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Randomness
    ) -> Perturbed:
        """See Perturbation."""
        reference = reference_of(self.attack, model, x)
        x_adv = self.attack(model, x, y, self.epsilon, generator=generator, reference=reference)
        return Perturbed(x_adv, {})


@torch.no_grad()
def reference_of(attack: InnerPgd, model: CamClassifier, x: Tensor) -> Tensor | None:
    """Return the clean prediction, (N, classes), if the attack climbs away from it."""
    return prediction(model, model.features(x)) if attack.loss is kl_divergence else None


@torch.no_grad()
def prediction(model: CamClassifier, features: Tensor) -> Tensor:
    """Return probabilities, (N, classes). features: (N, K, h, w)."""
    likely: Tensor = model.head(features).softmax(dim=1)
    return likely


@dataclass(frozen=True)
class Budget:
    """From a readout to the radius of every pixel: maps, mask S (Eq. 7), radii (Eq. 8)."""

    maps: Maps
    mask: Mask
    epsilon_high: float
    epsilon_low: float
    control: Control | None = None
    """A mask to compare with, in its place."""
    mean_mask: float | None = None
    """Bring every image's mask to this mean."""
    explain_prediction: bool = False
    """Read the maps for the predicted class, not for the label."""

    def heat(self, readout: Readout) -> Tensor:
        """Return the maps' heat, (N, H, W), in [0, 1]."""
        if self.explain_prediction:
            likely = prediction(readout.model, readout.features)
            readout = replace(readout, y=likely.argmax(dim=1))
        return self.maps(readout)

    def hot(self, heat: Tensor) -> Tensor:
        """Return the pixels whose radius is nearer the high one, (N, H, W) bool."""
        mask = self.mask(heat)
        return (mask if mask.ndim == 3 else mask.mean(dim=1)) > 0.5

    def radii(self, heat: Tensor, *, generator: Randomness) -> tuple[Tensor, dict[str, float]]:
        """Return the radii, broadcastable to the images, and what to record of them."""
        mask = self.mask(heat)
        if self.control is not None:
            mask = self.control(mask, generator=generator)
        if self.mean_mask is not None:
            mask = with_mean(mask, self.mean_mask)
        epsilon = pixel_budget(mask, epsilon_high=self.epsilon_high, epsilon_low=self.epsilon_low)
        constant = is_constant(heat).float().mean().item()
        return epsilon, {"cam/constant_fraction": constant, **describe(mask, epsilon)}

    def __call__(
        self, readout: Readout, *, generator: Randomness
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the radii from a readout; see :meth:`radii`."""
        return self.radii(self.heat(readout), generator=generator)


@dataclass(frozen=True)
class Reweighted:
    """PART and PART++: PGD inside the radii of the pixels (Alg. 1, 2).

    The maps are read on the very tensor that is attacked, never cached by batch (defect 1).
    """

    attack: InnerPgd
    budget: Budget

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Randomness
    ) -> Perturbed:
        """See Perturbation."""
        readout = read(model, x, y)
        epsilon, record = self.budget(readout, generator=generator)
        climbs_away = self.attack.loss is kl_divergence
        reference = prediction(model, readout.features) if climbs_away else None
        x_adv = self.attack(model, x, y, epsilon, generator=generator, reference=reference)
        return Perturbed(x_adv, record)


@dataclass(frozen=True)
class ReweightedFromCache(Reweighted):
    """The same with maps that are kept by sample and renewed when they are due."""

    kept: CachedMaps

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Randomness
    ) -> Perturbed:
        """See Perturbation."""
        heat, record = self.kept(lambda x, y: self.budget.heat(read(model, x, y)), self.budget.hot)
        epsilon, more = self.budget.radii(heat, generator=generator)
        reference = reference_of(self.attack, model, x)
        x_adv = self.attack(model, x, y, epsilon, generator=generator, reference=reference)
        return Perturbed(x_adv, {**more, **record})


@dataclass(frozen=True)
class ReweightedAtStart(Reweighted):
    """The same with the maps read at the random start, from the attack's own first pass.

    Deviation: the start is drawn in the ball of ``epsilon_high``, and the first gradient is taken
    there, before the point is brought into its pixels' radii. Costs no pass beside plain PGD.
    """

    def __call__(
        self, model: CamClassifier, x: Tensor, y: Tensor, *, generator: Randomness
    ) -> Perturbed:
        """See Perturbation."""
        with torch.enable_grad():
            start = uniform_in_ball(x, self.budget.epsilon_high, generator).requires_grad_()
            features = model.features(start)
            loss = self.attack.loss(model.head(features), y).sum()
            (gradient,) = torch.autograd.grad(loss, start)
        start = start.detach()
        readout = Readout(model, start, features.detach(), y)
        epsilon, record = self.budget(readout, generator=generator)
        first = step_linf(start, gradient, x, epsilon, step_size=self.attack.step_size)
        rest = replace(self.attack, num_steps=self.attack.num_steps - 1)
        return Perturbed(rest.climb(model, first, x, y, epsilon, y=y), record)


def describe(mask: Tensor, epsilon: Tensor) -> dict[str, float]:
    """Return means and quantiles of S and of the radii, over all pixels of the batch."""
    levels = mask.new_tensor([0.1, 0.5, 0.9])
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


def perturbation(
    method: s.Method,
    *,
    epoch: int,
    progress: float,
    kept: CachedMaps | None = None,
    learned: Combiner | None = None,
) -> Perturbation:
    """Return what a method does at a step: ``epoch`` counts from 0, ``progress`` is in [0, 1].

    kept: the batch's maps, where the method keeps them; learned: the ensemble's weights, where it
    learns them.
    """
    match method:
        case s.Standard():
            return Clean()
        case s.Uniform():
            return Uniform(
                build.inner_attack(method.attack, progress), at(method.epsilon, progress)
            )
        case s.Part() if epoch < method.warmup_epochs:
            if method.warmup == "clean":
                return Clean()
            attack = build.inner_attack(method.attack, progress)
            return Uniform(attack, at(method.epsilon_high, progress))
        case s.Part():
            attack = build.inner_attack(method.attack, progress)
            radii = budget(method, progress, learned)
            if kept is not None:
                return ReweightedFromCache(attack, radii, kept)
            kind = Reweighted if method.cam.read_at == "image" else ReweightedAtStart
            return kind(attack, radii)
        case _:
            assert_never(method)


def budget(method: s.Part, progress: float, learned: Combiner | None = None) -> Budget:
    """Return a method's way from maps to radii, at a progress in [0, 1]."""
    return Budget(
        maps=build.ensemble(method.cam, progress, learned),
        mask=build.mask(method.mask, progress),
        epsilon_high=at(method.epsilon_high, progress),
        epsilon_low=method.low_at(progress),
        control=build.control(method.control),
        mean_mask=method.mean_mask,
        explain_prediction=method.cam.target == "prediction",
    )
