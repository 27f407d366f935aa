"""The audit: rules over the records of an evaluation, each with its figures and advice.

Pure: it runs no network. A rule answers `holds`, `fails` or `does-not-apply`, never a guess.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from torch import Tensor

from domain.results import AttackResult, AuditCheck, AuditReport, Severity, Verdict
from domain.units import format_radius

TOLERANCE = 0.002
"""Least tolerance of rules that compare accuracies, as a proportion."""
GRADIENT_KINDS = frozenset({"fgsm", "pgd", "cw", "mma"})
MARGIN_KINDS = frozenset({"cw", "mma"})
Answer = tuple[Literal["holds", "fails", "does-not-apply"], str]


@dataclass(frozen=True)
class Record:
    """All that the audit looks at."""

    results: Mapping[str, AttackResult]
    """By label, in the order they ran; `clean` among them."""
    correct: Mapping[str, Tensor]
    """(N,) bool by label, in order of sample id."""
    epsilon: Fraction
    """Radius of the threat model."""
    dataset: str
    model: str
    extra_data: bool = False
    trained_adversarially_at: Fraction | None = None
    """Radius training attacked with; None for standard training or an unknown history."""
    mask: Mapping[str, float] | None = None
    """Last recorded mask and radius figures of a PART run whose mask is a soft one."""
    epsilon_gap: float = 0.0
    """epsilon_high - epsilon_low of that run."""
    mismatches: int | None = None
    """Kept adversarial images that the reloaded checkpoint classifies otherwise than recorded."""
    logit_difference: float | None = None
    """Largest relative difference of logits between batch sizes."""


def audit(record: Record) -> AuditReport:
    """Apply every rule and give the verdict.

    `broken` or `suspicious` if a rule of that severity fails; `incomplete` when clean accuracy,
    PGD-20 or an attack on the margin is missing; else `sound`.
    """
    checks = tuple(_apply(rule, record) for rule in RULES)
    return AuditReport(verdict=_verdict(record, checks), checks=checks)


def _verdict(record: Record, checks: tuple[AuditCheck, ...]) -> Verdict:
    failed: set[Severity] = {check.severity for check in checks if check.outcome == "fails"}
    if "broken" in failed:
        return "broken"
    if "suspicious" in failed:
        return "suspicious"
    return "incomplete" if missing_attacks(record) else "sound"


def missing_attacks(record: Record) -> list[str]:
    """Return what an evaluation lacks to be called sound at its own radius."""
    whole = [
        result
        for result in record.results.values()
        if result.threat is None or result.threat.epsilon == record.epsilon
    ]
    needed = {
        "clean accuracy": any(r.kind == "clean" for r in whole),
        "PGD with at least 20 steps": any(r.kind == "pgd" and (r.steps or 0) >= 20 for r in whole),
        "an attack on the margin (cw or mma)": any(r.kind in MARGIN_KINDS for r in whole),
    }
    return [name for name, there in needed.items() if not there]


@dataclass(frozen=True)
class Rule:
    """A name, how bad a failure is, what to do, and the test."""

    name: str
    severity: Severity
    advice: str
    test: Callable[[Record], Answer]


def _apply(rule: Rule, record: Record) -> AuditCheck:
    outcome, detail = rule.test(record)
    return AuditCheck(
        name=rule.name,
        severity=rule.severity,
        outcome=outcome,
        detail=detail,
        advice=rule.advice,
    )


def _attacks(record: Record) -> Iterator[AttackResult]:
    """Yield the attacks that had something to attack."""
    if record.results["clean"].correct:
        yield from (r for r in record.results.values() if r.kind in GRADIENT_KINDS)


def _answer(failures: list[str], applied: int, good: str) -> Answer:
    if failures:
        return "fails", "; ".join(failures)
    return ("holds", good) if applied else ("does-not-apply", "no attack to judge")


def valid(record: Record) -> Answer:
    """max |delta| <= epsilon + 1e-6, x_adv finite and in [0, 1]."""
    failures, worst, count = [], 0.0, 0
    for result in _attacks(record):
        count += 1
        seen = result.evidence
        if seen is None or result.threat is None:
            failures.append(f"{result.label} shows no evidence")
            continue
        limit = float(result.threat.epsilon) + 1e-6
        worst = max(worst, seen.max_abs_delta)
        inside = seen.lowest_pixel >= 0 and seen.highest_pixel <= 1
        if not (seen.finite and inside and seen.max_abs_delta <= limit):
            failures.append(
                f"{result.label}: |delta| up to {seen.max_abs_delta:.6f} of {limit:.6f}, pixels "
                f"{seen.lowest_pixel:.3f} to {seen.highest_pixel:.3f}, finite: {seen.finite}"
            )
    return _answer(failures, count, f"largest |delta| {worst:.6f}")


def ran(record: Record) -> Answer:
    """delta != 0 on more than 99 % of the attacked images."""
    shares = {
        r.label: (0.0 if r.evidence is None else r.evidence.moved_fraction)
        for r in _attacks(record)
    }
    failures = [
        f"{label} moved {share:.1%} of the images"
        for label, share in shares.items()
        if share <= 0.99
    ]
    least = min(shares.values(), default=1.0)
    return _answer(failures, len(shares), f"every attack moved at least {least:.1%} of the images")


def robust_at_most_clean(record: Record) -> Answer:
    """No image is robust that is wrong when clean: exact, sample by sample."""
    clean = record.correct["clean"]
    extra = {label: int((c & ~clean).sum()) for label, c in record.correct.items()}
    failures = [f"{label}: {n} images right only under attack" for label, n in extra.items() if n]
    return _answer(failures, len(extra) - 1, "no image is right only under attack")


def monotone(record: Record) -> Answer:
    """FGSM >= PGD-10 >= PGD-20 >= ... within the paired tolerance."""
    at_radius = [r for r in record.results.values() if _same_radius(record, r)]
    chain = [r for r in at_radius if r.kind == "fgsm"]
    chain += sorted((r for r in at_radius if r.kind == "pgd"), key=_passes)
    failures = []
    for weaker, stronger in pairwise(chain):
        excess = stronger.accuracy - weaker.accuracy
        allowed = tolerance(record.correct[weaker.label], record.correct[stronger.label])
        if excess > allowed:
            failures.append(
                f"{stronger.label} leaves {excess:.2%} more than {weaker.label} "
                f"(allowed {allowed:.2%})"
            )
    told = " >= ".join(f"{r.label} {r.accuracy:.2%}" for r in chain)
    return _answer(failures, max(0, len(chain) - 1), told)


def _passes(result: AttackResult) -> int:
    return (result.steps or 0) * (result.restarts or 1)


def _same_radius(record: Record, result: AttackResult) -> bool:
    return result.threat is not None and result.threat.epsilon == record.epsilon


def tolerance(a: Tensor, b: Tensor) -> float:
    """max(0.2 points, two paired standard errors) of two per-sample outcomes, (N,) bool each."""
    difference = a.double() - b.double()
    error = difference.std(correction=0).item() / math.sqrt(len(a))
    return max(TOLERANCE, 2 * error)


def reach(record: Record) -> Answer:
    """steps x step_size >= 2 epsilon: an attack that cannot cross its ball is no attack."""
    failures, count = [], 0
    for result in _attacks(record):
        if result.kind == "fgsm" or result.threat is None or not result.steps:
            continue
        count += 1
        covered = result.steps * (result.step_size or Fraction(0))
        if covered < 2 * result.threat.epsilon:
            failures.append(
                f"{result.label} covers {format_radius(covered)} of a diameter of "
                f"{format_radius(2 * result.threat.epsilon)}"
            )
    return _answer(failures, count, "every attack can cross its ball")


def zero_gradients(record: Record) -> Answer:
    """At most 1 % of the images have an input gradient that is all zero."""
    shares = {r.label: r.evidence.zero_gradient_fraction for r in _attacks(record) if r.evidence}
    failures = [f"{label}: {share:.1%}" for label, share in shares.items() if share > 0.01]
    most = max(shares.values(), default=0.0)
    return _answer(failures, len(shares), f"at most {most:.2%} of the gradients are zero")


def reproduced(record: Record) -> Answer:
    """The checkpoint, loaded again from disk, classifies the kept images as recorded."""
    if record.mismatches is None:
        return "does-not-apply", "no adversarial image was kept"
    if record.mismatches:
        return "fails", f"{record.mismatches} kept images are classified otherwise"
    return "holds", "the reloaded checkpoint classifies every kept image as recorded"


def deterministic(record: Record) -> Answer:
    """Logits do not depend on the batch size or the pass: relative difference under 1e-4."""
    if record.logit_difference is None:
        return "does-not-apply", "not measured"
    told = f"largest relative difference {record.logit_difference:.1e}"
    return ("holds" if record.logit_difference < 1e-4 else "fails"), told


def catastrophic_overfitting(record: Record) -> Answer:
    """FGSM - PGD-20 <= 15 points, for networks trained with attacks at this radius."""
    fgsm, pgd = record.results.get("fgsm"), record.results.get("pgd-20")
    applies = (
        record.trained_adversarially_at == record.epsilon
        and fgsm is not None
        and pgd is not None
        and _same_radius(record, fgsm)
        and _same_radius(record, pgd)
    )
    if not applies or fgsm is None or pgd is None:
        return "does-not-apply", "needs FGSM, PGD-20 and adversarial training at this radius"
    gap = fgsm.accuracy - pgd.accuracy
    return ("holds" if gap <= 0.15 else "fails"), f"FGSM - PGD-20 is {100 * gap:.1f} points"


def too_good(record: Record) -> Answer:
    """ResNet-18 on CIFAR-10 at 8/255 without extra data: a margin attack leaves at most 58 %."""
    applies = (
        record.model == "resnet18"
        and record.dataset == "cifar10"
        and record.epsilon == Fraction(8, 255)
        and not record.extra_data
    )
    margins = [r for r in record.results.values() if r.kind in MARGIN_KINDS]
    if not applies or not margins:
        return "does-not-apply", "known limits are for ResNet-18 on CIFAR-10 at 8/255"
    best = min(r.accuracy for r in margins)
    return ("holds" if best <= 0.58 else "fails"), f"{best:.2%} under the strongest margin attack"


def mask_alive(record: Record) -> Answer:
    """The mask is not saturated on most pixels and moves the radii by a tenth of their range."""
    if record.mask is None:
        return "does-not-apply", "this run's radii are not decided by a soft mask"
    high, low = record.mask["mask/saturated_high"], record.mask["mask/saturated_low"]
    std = record.mask["epsilon/std"]
    alive = max(high, low) <= 0.7 and std >= 0.1 * record.epsilon_gap
    told = f"S > 0.95 on {high:.0%}, < 0.05 on {low:.0%} of the pixels, std(epsilon_w) {std:.2e}"
    return ("holds" if alive else "fails"), told


RULES: tuple[Rule, ...] = (
    Rule("valid", "broken", "The projection is wrong: look at the attack's last step.", valid),
    Rule("ran", "broken", "The attack did nothing: check that it is called at all.", ran),
    Rule(
        "robust-at-most-clean",
        "broken",
        "Clean and attacked images are not the same, or the network's mode differs.",
        robust_at_most_clean,
    ),
    Rule(
        "monotone",
        "suspicious",
        "More steps must not leave more images: step size too large, or masked gradients.",
        monotone,
    ),
    Rule("reach", "suspicious", "Use more or larger steps: steps x step_size >= 2 epsilon.", reach),
    Rule(
        "zero-gradients",
        "suspicious",
        "Logits are saturated or gradients masked: attack the margin, scale the logits.",
        zero_gradients,
    ),
    Rule(
        "reproduced",
        "broken",
        "What was attacked is not what is stored: compare the checkpoint with the run's.",
        reproduced,
    ),
    Rule(
        "deterministic",
        "broken",
        "The network is random or in training mode while it is judged.",
        deterministic,
    ),
    Rule(
        "catastrophic-overfitting",
        "suspicious",
        "Training beat its own attack only: use more steps or a random start.",
        catastrophic_overfitting,
    ),
    Rule("too-good", "suspicious", "Look for test data in training, or a label leak.", too_good),
    Rule(
        "mask-alive",
        "suspicious",
        "The mask changes nothing: choose a centred mask or another tau.",
        mask_alive,
    ),
)
