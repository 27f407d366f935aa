"""What the audit looks at, and what its rules share."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from domain.attacks import MARGIN_KINDS, MOVING_KINDS
from domain.bitmap import Bitmap
from domain.results import AttackResult, AuditFacts

TOLERANCE = 0.002
"""Least tolerance of rules that compare accuracies, as a proportion."""
REPRESENTATIVE = 100
"""Images from which an accuracy is known to ten points (95 % interval)."""
PHOTOGRAPHS = frozenset({"cifar10", "cifar100", "svhn", "image-folder"})
"""Datasets of natural images, which thresholds of the literature are about."""
Answer = tuple[Literal["holds", "fails", "does-not-apply"], str]


@dataclass(frozen=True)
class Record:
    """All that the audit looks at."""

    results: Mapping[str, AttackResult]
    """By label, in the order they ran; `clean` among them."""
    epsilon: Fraction
    """Radius of the threat model."""
    worst_case: AttackResult
    facts: AuditFacts
    correct: Mapping[str, Bitmap] = field(init=False)
    """What stands, by label."""

    def __post_init__(self) -> None:
        decoded = {label: Bitmap.decode(r.outcomes, r.n) for label, r in self.results.items()}
        object.__setattr__(self, "correct", decoded)

    def attacks(self) -> Iterator[AttackResult]:
        """Yield the attacks that follow gradients, if there was something to attack."""
        if self.results["clean"].correct:
            yield from (r for r in self.results.values() if r.kind in MOVING_KINDS)

    def comparable(self, *kinds: str) -> Iterator[AttackResult]:
        """Yield complete attacks of some kinds, each apart from the others, at the whole radius."""
        for result in self.results.values():
            apart = result.complete and not result.cascaded
            if result.kind in kinds and apart and self.is_whole(result):
                yield result

    def is_whole(self, result: AttackResult) -> bool:
        """Whether an attack ran at the threat model's own radius, l-infinity."""
        threat = result.threat
        return threat is not None and threat.norm == "linf" and threat.epsilon == self.epsilon

    def is_within(self, result: AttackResult) -> bool:
        """Whether all an attack may do is inside the threat model; clean images are."""
        threat = result.threat
        return threat is None or (threat.norm == "linf" and threat.epsilon <= self.epsilon)

    @property
    def is_usual(self) -> bool:
        """Whether thresholds of the literature apply: photographs at 8/255."""
        return self.facts.dataset in PHOTOGRAPHS and self.epsilon == Fraction(8, 255)


def missing_attacks(record: Record) -> list[str]:
    """Return what an evaluation lacks to be called sound at its own radius."""
    whole = [r for r in record.results.values() if r.threat is None or record.is_whole(r)]
    ended = [r for r in whole if r.complete]
    needed = {
        "clean accuracy": any(r.kind == "clean" for r in ended),
        "PGD with at least 20 steps": any(r.kind == "pgd" and (r.steps or 0) >= 20 for r in ended),
        "an attack on the margin (cw, mma or autoattack)": any(
            r.kind in MARGIN_KINDS for r in ended
        ),
    }
    lacking = [name for name, there in needed.items() if not there]
    unfinished = [r.label for r in record.results.values() if not r.complete]
    return lacking + [
        f"the rest of {label}, for which the budget was too small" for label in unfinished
    ]


def tolerance(a: Bitmap, b: Bitmap) -> float:
    """max(0.2 points, two paired standard errors) of two per-sample outcomes."""
    n = a.n
    differ, mean = (a & ~b).count() + (b & ~a).count(), (a.count() - b.count()) / n
    error = math.sqrt((differ / n - mean**2) / n)
    return max(TOLERANCE, 2 * error)


def answer(failures: list[str], applied: int, good: str) -> Answer:
    """Fail for the failures, hold for what was looked at, else apply to nothing."""
    if failures:
        return "fails", "; ".join(failures)
    return ("holds", good) if applied else ("does-not-apply", "no attack to judge")
