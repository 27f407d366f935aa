"""Every rule is seen to fail on a planted defect and to stay silent on a sound record."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from domain.results import AttackEvidence, AttackResult, ThreatModel, wilson_interval
from partcore.audit import RULES, Record, audit, tolerance
from partcore.evaluation import pack, unpack

N = 400
EPSILON = Fraction(8, 255)


def result(label: str, kind: str, correct: torch.Tensor, **over: Any) -> AttackResult:
    hits = int(correct.sum())
    values: dict[str, Any] = {
        "label": label,
        "kind": kind,
        "threat": None if kind == "clean" else ThreatModel(epsilon=EPSILON),
        "n": len(correct),
        "correct": hits,
        "accuracy": hits / len(correct),
        "interval": wilson_interval(hits, len(correct)),
        "seconds": 1.0,
        "outcomes": pack(correct),
        "evidence": None if kind == "clean" else evidence(),
    }
    return AttackResult(**{**values, **over})


def evidence(**over: Any) -> AttackEvidence:
    values: dict[str, Any] = {
        "max_abs_delta": float(EPSILON),
        "moved_fraction": 1.0,
        "lowest_pixel": 0.0,
        "highest_pixel": 1.0,
        "finite": True,
        "zero_gradient_fraction": 0.0,
    }
    return AttackEvidence(**{**values, **over})


def first(count: int) -> torch.Tensor:
    return torch.arange(N) < count


def sound(**over: Any) -> Record:
    steps = {"step_size": EPSILON / 4, "restarts": 1}
    results = {
        "clean": result("clean", "clean", first(330)),
        "fgsm": result("fgsm", "fgsm", first(230), steps=1, step_size=EPSILON),
        "pgd-10": result("pgd-10", "pgd", first(205), steps=10, **steps),
        "pgd-20": result("pgd-20", "pgd", first(204), steps=20, **steps),
        "cw-20": result("cw-20", "cw", first(196), steps=20, **steps),
    }
    values: dict[str, Any] = {
        "results": results,
        "correct": {label: unpack(r.outcomes, N) for label, r in results.items()},
        "epsilon": EPSILON,
        "dataset": "cifar10",
        "model": "resnet18",
        "trained_adversarially_at": EPSILON,
        "mask": {
            "mask/saturated_high": 0.2,
            "mask/saturated_low": 0.2,
            "epsilon/std": 0.3 / 255,
        },
        "epsilon_gap": 1 / 255,
        "mismatches": 0,
        "logit_difference": 1e-6,
    }
    return Record(**{**values, **over})


def with_result(label: str, **over: Any) -> Record:
    """A sound record in which one attack's result is another."""
    base = sound()
    changed = base.results[label].model_copy(update=over)
    return sound(results={**base.results, label: changed})


def with_outcome(label: str, correct: torch.Tensor) -> Record:
    """A sound record in which one attack left other images standing."""
    base = sound()
    old = base.results[label]
    extra = {k: getattr(old, k) for k in ("threat", "steps", "step_size", "restarts", "evidence")}
    changed = result(label, old.kind, correct, **extra)
    return sound(results={**base.results, label: changed}, correct={**base.correct, label: correct})


PLANTED: list[tuple[str, str, Record]] = [
    ("valid", "radius", with_result("pgd-20", evidence=evidence(max_abs_delta=0.04))),
    ("valid", "pixels", with_result("cw-20", evidence=evidence(highest_pixel=1.01))),
    ("valid", "nan", with_result("fgsm", evidence=evidence(finite=False))),
    ("valid", "nothing shown", with_result("fgsm", evidence=None)),
    ("ran", "placeholder", with_result("pgd-20", evidence=evidence(moved_fraction=0.0))),
    ("robust-at-most-clean", "swapped", with_outcome("pgd-20", torch.arange(N) >= N - 204)),
    ("monotone", "step too large", with_outcome("pgd-20", first(225))),
    ("reach", "step too small", with_result("pgd-10", step_size=Fraction(1, 255))),
    (
        "zero-gradients",
        "saturated",
        with_result("cw-20", evidence=evidence(zero_gradient_fraction=0.3)),
    ),
    ("reproduced", "other weights", sound(mismatches=3)),
    ("deterministic", "training mode", sound(logit_difference=0.02)),
    ("catastrophic-overfitting", "collapse", with_outcome("fgsm", first(300))),
    ("too-good", "leak", with_outcome("cw-20", first(240))),
    (
        "mask-alive",
        "saturated",
        sound(mask={"mask/saturated_high": 0.8, "mask/saturated_low": 0.0, "epsilon/std": 1.0}),
    ),
    (
        "mask-alive",
        "constant",
        sound(mask={"mask/saturated_high": 0.0, "mask/saturated_low": 0.0, "epsilon/std": 0.0}),
    ),
]


def failing(record: Record) -> list[str]:
    return [check.name for check in audit(record).checks if check.outcome == "fails"]


def test_a_sound_record_is_sound_and_every_rule_held():
    report = audit(sound())
    assert report.verdict == "sound"
    assert {check.outcome for check in report.checks} == {"holds"}


@pytest.mark.parametrize(
    ("rule", "_what", "record"), PLANTED, ids=[f"{r}: {w}" for r, w, _ in PLANTED]
)
def test_a_planted_defect_is_caught_by_its_rule(rule, _what, record):
    assert rule in failing(record)
    severity = next(r.severity for r in RULES if r.name == rule)
    assert audit(record).verdict in (severity, "broken")


def test_every_rule_has_a_planted_defect_and_says_what_to_do():
    assert {rule.name for rule in RULES} == {rule for rule, _, _ in PLANTED}
    assert all(rule.advice.endswith(".") for rule in RULES)


def test_the_published_figure_would_have_been_caught():
    """72.73 % 'robust' from an evaluation that never attacked: clean accuracy again."""
    still = evidence(max_abs_delta=0.0, moved_fraction=0.0)
    base = sound()
    results = {
        label: r
        if r.kind == "clean"
        else result(label, r.kind, first(330), steps=r.steps, step_size=r.step_size, evidence=still)
        for label, r in base.results.items()
    }
    report = audit(sound(results=results, correct=dict.fromkeys(results, first(330))))
    assert report.verdict == "broken"


@pytest.mark.parametrize("missing", ["pgd-20", "cw-20"])
def test_without_a_strong_and_a_margin_attack_the_verdict_is_incomplete(missing):
    base = sound()
    results = {label: r for label, r in base.results.items() if label != missing}
    correct = {label: c for label, c in base.correct.items() if label != missing}
    assert audit(sound(results=results, correct=correct)).verdict == "incomplete"


def test_an_attack_at_a_smaller_radius_does_not_complete_an_evaluation():
    smaller = ThreatModel(epsilon=Fraction(31, 1000))
    seen = evidence(max_abs_delta=0.031)
    assert audit(with_result("cw-20", threat=smaller, evidence=seen)).verdict == "incomplete"


@pytest.mark.parametrize(
    ("over", "rule"),
    [
        ({"trained_adversarially_at": None}, "catastrophic-overfitting"),
        ({"dataset": "digits"}, "too-good"),
        ({"model": "small-cnn"}, "too-good"),
        ({"epsilon": Fraction(31, 1000)}, "too-good"),
        ({"mask": None}, "mask-alive"),
        ({"mismatches": None}, "reproduced"),
        ({"logit_difference": None}, "deterministic"),
    ],
)
def test_a_rule_says_where_it_does_not_apply(over, rule):
    (check,) = [c for c in audit(sound(**over)).checks if c.name == rule]
    assert check.outcome == "does-not-apply"


def test_a_network_that_knows_nothing_gives_attacks_nothing_to_do():
    base = sound()
    results = {
        label: result(label, r.kind, first(0), steps=r.steps, step_size=r.step_size)
        for label, r in base.results.items()
    }
    report = audit(sound(results=results, correct=dict.fromkeys(results, first(0))))
    assert report.verdict == "sound"
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes["valid"] == outcomes["ran"] == "does-not-apply"


def test_the_tolerance_is_two_paired_standard_errors_or_a_fifth_of_a_point():
    same = torch.ones(10_000, dtype=torch.bool)
    assert tolerance(same, same) == 0.002
    flipped = same.clone()
    flipped[:400] = False
    spread = binomtest(400, 10_000).proportion_estimate
    expected = 2 * (spread * (1 - spread) / 10_000) ** 0.5
    assert tolerance(same, flipped) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 360])
def test_outcomes_survive_packing(count):
    correct = torch.rand(count) > 0.5
    assert torch.equal(unpack(pack(correct), count), correct)
