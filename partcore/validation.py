"""How good weights are, on images held out of training: what `best` means."""

from dataclasses import dataclass

import torch

from partcore.attacks import EvaluationAttack, Fgsm, Pgd
from partcore.data import Images, to_unit
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.randomness import generator

STEPS = 10
COLLAPSE_GAP, COLLAPSE_SHARE = 0.15, 0.25
"""FGSM accuracy this far above PGD's, and PGD leaving less than this share of what FGSM leaves,
means that training learned the single step alone. The gap alone is common early on digits."""


@dataclass(frozen=True)
class Robustness:
    """Accuracies on the same images."""

    clean: float
    fgsm: float
    pgd: float

    @property
    def has_collapsed(self) -> bool:
        """Whether this is catastrophic overfitting (Wong et al., 2020)."""
        has_gap = self.fgsm - self.pgd > COLLAPSE_GAP
        return has_gap and self.pgd < COLLAPSE_SHARE * self.fgsm


@dataclass(frozen=True)
class Best:
    """The best weights so far, by validation."""

    epoch: int
    averaged: bool
    accuracy: float
    robust_accuracy: float

    def beats(self, other: "Best | None", *, clean_only: bool) -> bool:
        """Compare by robust accuracy (clean for `standard`), then by the other; ties go earlier."""
        if other is None:
            return True
        mine, theirs = (
            (b.accuracy, b.robust_accuracy) if clean_only else (b.robust_accuracy, b.accuracy)
            for b in (self, other)
        )
        return mine > theirs


def robustness(
    model: CamClassifier, images: Images, *, epsilon: float, seed: int, batch_size: int = 512
) -> Robustness:
    """Attack ``images`` with FGSM and PGD-10, with noise that is the same every time."""
    noise = generator(seed, "validation")
    attacks: tuple[EvaluationAttack, ...] = (Fgsm(), Pgd(step_size=epsilon / 4, num_steps=STEPS))
    clean, standing = 0, [0, 0]
    with evaluating(model), frozen(model):
        for start in range(0, len(images), batch_size):
            x, y = to_unit(images.x[start : start + batch_size]), images.y[start:][:batch_size]
            unit = 2 * torch.rand(x.shape, generator=noise).to(x.device) - 1
            with torch.no_grad():
                right = model(x).argmax(dim=1) == y
            clean += int(right.sum())
            for i, attack in enumerate(attacks):
                attempt = attack(model, x[right], y[right], epsilon, unit[right])
                standing[i] += int((~attempt.broken).sum())
    return Robustness(clean / len(images), *(count / len(images) for count in standing))
