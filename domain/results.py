"""What an evaluation found, and what the audit thinks of it."""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Literal

from domain.attacks import Norm
from domain.base import Model
from domain.units import Radius, format_radius
from domain.weights import Source

Severity = Literal["broken", "suspicious", "incomplete"]
Verdict = Literal["sound", "suspicious", "broken", "incomplete"]


class Interval(Model):
    """A confidence interval on a proportion."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, *, z: float = 1.959963984540054) -> Interval:
    """Wilson's score interval (Wilson, 1927), 95 % by default.

    Raises ValueError unless 0 <= successes <= trials and trials > 0.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    # Exact at the ends, where rounding would leave 1e-17 of them.
    return Interval(
        low=max(0.0, centre - half) if successes else 0.0,
        high=min(1.0, centre + half) if successes < trials else 1.0,
    )


class ThreatModel(Model):
    """What the attacker may do."""

    norm: Norm = "linf"
    epsilon: Radius
    """Radius in [0, 1] pixels, exact: 0.031 is not 8/255."""

    def __str__(self) -> str:
        return f"{self.norm} {format_radius(self.epsilon)}"

    def allows(self, other: "ThreatModel") -> bool:
        """Whether every image that ``other`` allows is one of this threat model."""
        return self.norm == other.norm and other.epsilon <= self.epsilon


class AttackEvidence(Model):
    """What the attack did to the images, measured apart from it."""

    max_abs_delta: float
    """Largest distance of x_adv from x over all images, in the norm of the threat model."""
    moved_fraction: float
    """Share of attacked images whose last attempt differs from the image."""
    lowest_pixel: float
    highest_pixel: float
    finite: bool
    """Whether x_adv holds neither NaN nor infinity."""
    zero_gradient_fraction: float
    """Share of attacked images whose first input gradient is all zero."""
    silent_successes: int = 0
    """Images that the attack says it broke and that are right at its own x_adv."""


class Surrogate(Model):
    """The network that a transfer attack made its images on."""

    source: Source
    model: str
    model_sha256: str
    """Hash of its weights, as an evaluation gives that of the network it judges."""


class StageResult(Model):
    """Part of an attack: a restart, a target, a member of AutoAttack."""

    name: str
    correct: int
    """Images standing after it."""


class AttackResult(Model):
    """Accuracy under one attack (or under none: ``clean``)."""

    label: str
    """`clean`, or the attack's name such as `pgd-20`."""
    kind: str
    """`clean`, or the attack's kind such as `pgd`."""
    threat: ThreatModel | None
    """None for clean."""
    steps: int | None = None
    step_size: Radius | None = None
    restarts: int | None = None
    n: int
    """Images judged."""
    correct: int
    """Images still classified correctly; wrong when clean counts as broken."""
    accuracy: float
    interval: Interval
    """95 % Wilson interval of ``accuracy``."""
    seconds: float
    outcomes: str
    """Per-sample correctness: base64 of big-endian packed bits in order of sample id."""
    evidence: AttackEvidence | None = None
    """None for clean."""
    passes: int | None = None
    """Forward passes of an image it took."""
    complete: bool = True
    """Whether every stage ran to its end; otherwise ``accuracy`` is an upper bound."""
    cascaded: bool = False
    """Whether images broken by earlier attacks count as broken here."""
    stages: tuple[StageResult, ...] = ()
    """What stood after each of its parts, where it has several."""
    surrogate: Surrogate | None = None
    """For a transfer attack: where its images come from."""

    @property
    def is_bound(self) -> bool:
        """Whether ``accuracy`` only bounds robust accuracy from above.

        So it does where a budget ended the attack, and in a cascade, whose attacks alone may leave
        more images standing.
        """
        return self.cascaded or not self.complete


class AuditCheck(Model):
    """One rule of the audit, applied."""

    name: str
    severity: Severity
    outcome: Literal["holds", "fails", "does-not-apply"]
    detail: str
    """The figures the outcome rests on."""
    advice: str
    """What to do if it fails."""


class AuditReport(Model):
    """All rules and the verdict they lead to."""

    verdict: Verdict
    checks: tuple[AuditCheck, ...]


class AuditFacts(Model):
    """What the audit needs beside outcomes: of the run, and of the network by itself."""

    dataset: str
    model: str
    extra_data: bool = False
    trained_at: Radius | None = None
    """Radius training attacked with; None for standard training or an unknown history."""
    mask: Mapping[str, float] | None = None
    """Last recorded mask and radius figures of a PART run whose mask is a soft one."""
    epsilon_gap: float = 0.0
    """epsilon_high - epsilon_low of that run."""
    mismatches: int | None = None
    """Kept adversarial images that the reloaded checkpoint classifies otherwise than recorded."""
    logit_difference: float | None = None
    """Largest relative difference of logits between passes and batch sizes."""
    gives_probabilities: bool | None = None
    """Whether all outputs lie in [0, 1] and sum to 1."""
    seen_in_training: int | None = None
    """Judged images that are, byte for byte, among the training images."""
    classes: int | None = None
    """Classes of the dataset."""
    classes_judged: int | None = None
    """Classes that a judged image is of."""
    held_out: int | None = None
    """Images that `best` weights were chosen on; None for others, or where it is not known."""


class CorruptionResult(Model):
    """Accuracy under one corruption at one severity."""

    label: str
    """Such as `gaussian-noise@3`."""
    kind: str
    severity: int
    """From 1 to 5."""
    n: int
    """Images judged."""
    correct: int
    """Corrupted images classified correctly, whether or not they are when clean."""
    accuracy: float
    interval: Interval
    """95 % Wilson interval of ``accuracy``."""
    outcomes: str
    """Per-sample correctness, as in :class:`AttackResult`."""


class Evaluation(Model):
    """Everything known of one evaluation."""

    weights: Literal["best", "last", "uploaded"]
    suite: str | None = None
    """The suite that was run, if one was named."""
    averaged: bool
    """Whether the weights are the exponential moving average."""
    model_sha256: str
    data_sha256: str
    """Hash of the test images and labels judged."""
    sample_ids_sha256: str
    n: int
    results: tuple[AttackResult, ...]
    worst_case: AttackResult
    """Exact union over all attacks."""
    audit: AuditReport
    facts: AuditFacts | None = None
    """None for what was stored before facts were."""
    corruptions: tuple[CorruptionResult, ...] = ()
    """By kind, then severity; no part of ``results``, the worst case or the audit."""

    @property
    def counted(self) -> tuple[str, ...]:
        """Labels of the attacks that the worst case is over: those inside its threat model."""
        whole = self.worst_case.threat
        return tuple(
            result.label
            for result in self.results
            if result.threat is not None and whole is not None and whole.allows(result.threat)
        )

    @property
    def rows(self) -> tuple[AttackResult, ...]:
        """Clean, the attacks in their order and the worst case.

        Where no attack counts, the worst case would be clean accuracy by another name: it is left
        out.
        """
        return (*self.results, self.worst_case) if self.counted else self.results

    @property
    def described_weights(self) -> str:
        """Which weights were judged: `best`, `best (averaged)`, `last` or `uploaded`."""
        return f"{self.weights} (averaged)" if self.averaged else self.weights

    @property
    def mean_corruption_accuracy(self) -> float | None:
        """Mean over kinds of the mean over severities; None without corruptions."""
        by_kind = self.accuracy_by_corruption()
        return fmean(by_kind.values()) if by_kind else None

    def accuracy_by_corruption(self) -> dict[str, float]:
        """Return each kind's mean accuracy over the severities it was run at."""
        kinds = dict.fromkeys(result.kind for result in self.corruptions)
        return {
            kind: fmean(r.accuracy for r in self.corruptions if r.kind == kind) for kind in kinds
        }
