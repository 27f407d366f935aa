"""Every rule is seen to fail on a planted defect and to stay silent on a sound record."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from domain.audit import RULES, Record, audit, tolerance
from domain.bitmap import Bitmap, union_of_breaks
from domain.results import (
    AttackEvidence,
    AttackResult,
    AuditFacts,
    StageResult,
    ThreatModel,
    wilson_interval,
)

N = 400
EPSILON = Fraction(8, 255)


def result(label: str, kind: str, correct: Bitmap, **over: Any) -> AttackResult:
    hits = correct.count()
    values: dict[str, Any] = {
        "label": label,
        "kind": kind,
        "threat": None if kind == "clean" else ThreatModel(epsilon=EPSILON),
        "n": correct.n,
        "correct": hits,
        "accuracy": hits / correct.n,
        "interval": wilson_interval(hits, correct.n),
        "seconds": 1.0,
        "outcomes": correct.encode(),
        "evidence": None if kind == "clean" else evidence(),
    }
    return AttackResult(**{**values, **over})


def at(factor: int | Fraction, correct: int) -> AttackResult:
    """PGD-20 at a multiple of the radius."""
    radius = EPSILON * factor
    return result(
        f"pgd-20@{radius}",
        "pgd",
        first(correct),
        steps=20,
        step_size=radius / 4,
        restarts=1,
        threat=ThreatModel(epsilon=radius),
        evidence=evidence(max_abs_delta=float(radius)),
    )


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


def first(count: int) -> Bitmap:
    return Bitmap.of(i < count for i in range(N))


def sound_results() -> dict[str, AttackResult]:
    steps = {"step_size": EPSILON / 4, "restarts": 1}
    members = (
        StageResult(name="apgd-ce", correct=200),
        StageResult(name="apgd-t", correct=191),
        StageResult(name="square", correct=190),
    )
    attacks = [
        result("clean", "clean", first(330)),
        result("noise", "noise", first(328)),
        result("fgsm", "fgsm", first(230), steps=1, step_size=EPSILON),
        result("pgd-10", "pgd", first(205), steps=10, **steps),
        result("pgd-20", "pgd", first(204), steps=20, **steps),
        result("pgd-100", "pgd", first(203), steps=100, **steps),
        result("cw-20", "cw", first(196), steps=20, **steps),
        *(at(Fraction(1, 2), 260), at(2, 100), at(4, 30), at(8, 0)),
        result("autoattack", "autoattack", first(190), steps=100, stages=members),
    ]
    return {found.label: found for found in attacks}


FACTS: dict[str, Any] = {
    "dataset": "cifar10",
    "model": "resnet18",
    "trained_at": EPSILON,
    "mask": {"mask/saturated_high": 0.2, "mask/saturated_low": 0.2, "epsilon/std": 0.3 / 255},
    "epsilon_gap": 1 / 255,
    "mismatches": 0,
    "logit_difference": 1e-6,
    "gives_probabilities": False,
    "seen_in_training": 0,
    "classes": 10,
    "classes_judged": 10,
    "held_out": 100,
}


def record(
    results: dict[str, AttackResult] | None = None,
    *,
    epsilon: Fraction = EPSILON,
    worst: Bitmap | None = None,
    **facts: Any,
) -> Record:
    """A sound record, but for what is given."""
    results = results or sound_results()
    inside = [r for r in results.values() if r.threat is None or r.threat.epsilon <= EPSILON]
    union = union_of_breaks(Bitmap.decode(r.outcomes, r.n) for r in inside)
    return Record(
        results=results,
        epsilon=epsilon,
        worst_case=result("worst-case", "union", worst or union),
        facts=AuditFacts(**{**FACTS, **facts}),
    )


def with_result(label: str, **over: Any) -> Record:
    """A sound record in which one attack's result is another."""
    results = sound_results()
    return record({**results, label: results[label].model_copy(update=over)})


def with_outcome(label: str, correct: Bitmap) -> Record:
    """A sound record in which one attack left other images standing."""
    results = sound_results()
    kept = {"n", "correct", "accuracy", "interval", "outcomes", "label", "kind", "seconds"}
    old = results[label]
    extra = {k: getattr(old, k) for k in type(old).model_fields if k not in kept}
    return record({**results, label: result(label, old.kind, correct, **extra)})


def without(*labels: str) -> Record:
    return record({label: r for label, r in sound_results().items() if label not in labels})


def square(correct: int) -> StageResult:
    return StageResult(name="square", correct=correct)


PLANTED: list[tuple[str, str, Record]] = [
    ("valid", "radius", with_result("pgd-20", evidence=evidence(max_abs_delta=0.04))),
    ("valid", "pixels", with_result("cw-20", evidence=evidence(highest_pixel=1.01))),
    ("valid", "nan", with_result("fgsm", evidence=evidence(finite=False))),
    ("valid", "nothing shown", with_result("fgsm", evidence=None)),
    ("ran", "placeholder", with_result("pgd-20", evidence=evidence(moved_fraction=0.0))),
    (
        "robust-at-most-clean",
        "swapped",
        with_outcome("pgd-20", Bitmap.of(i >= N - 204 for i in range(N))),
    ),
    ("monotone", "step too large", with_outcome("pgd-20", first(225))),
    ("reach", "step too small", with_result("pgd-10", step_size=Fraction(1, 255))),
    (
        "zero-gradients",
        "saturated",
        with_result("cw-20", evidence=evidence(zero_gradient_fraction=0.3)),
    ),
    ("reproduced", "other weights", record(mismatches=3)),
    ("deterministic", "training mode", record(logit_difference=0.02)),
    ("catastrophic-overfitting", "collapse", with_outcome("fgsm", first(300))),
    ("too-good", "leak", with_outcome("autoattack", first(220))),
    ("uses-its-radius", "unit", with_result("pgd-20", evidence=evidence(max_abs_delta=1e-4))),
    ("silent-success", "last", with_result("pgd-20", evidence=evidence(silent_successes=2))),
    ("union-exact", "one attack alone", record(worst=first(204))),
    ("converged", "weak", with_outcome("pgd-100", first(190))),
    ("autoattack-smallest", "another model", with_outcome("autoattack", first(230))),
    ("autoattack-gap", "masked", with_outcome("autoattack", first(150))),
    ("epsilon-sweep", "rises", with_outcome("pgd-20@16/255", first(300))),
    ("epsilon-sweep", "stays", with_outcome("pgd-20@64/255", first(29))),
    (
        "black-box",
        "masked",
        with_result("autoattack", stages=(StageResult(name="apgd", correct=230), square(190))),
    ),
    ("noise", "fgsm is none", with_outcome("noise", first(100))),
    ("logits", "softmax", record(gives_probabilities=True)),
    ("held-out", "leak", record(seen_in_training=40)),
    ("representative", "a class is not judged", record(classes_judged=9)),
    (
        "mask-alive",
        "saturated",
        record(mask={"mask/saturated_high": 0.8, "mask/saturated_low": 0.0, "epsilon/std": 1.0}),
    ),
    (
        "mask-alive",
        "constant",
        record(mask={"mask/saturated_high": 0.0, "mask/saturated_low": 0.0, "epsilon/std": 0.0}),
    ),
]


def failing(found: Record) -> list[str]:
    return [check.name for check in audit(found).checks if check.outcome == "fails"]


def test_a_sound_record_is_sound_and_every_rule_held():
    report = audit(record())
    assert [c for c in report.checks if c.outcome != "holds"] == []
    assert report.verdict == "sound"


@pytest.mark.parametrize(
    ("rule", "_what", "planted"), PLANTED, ids=[f"{r}: {w}" for r, w, _ in PLANTED]
)
def test_a_planted_defect_is_caught_by_its_rule(rule, _what, planted):
    assert rule in failing(planted)
    severity = next(r.severity for r in RULES if r.name == rule)
    assert audit(planted).verdict in (severity, "broken")


@pytest.mark.parametrize("n", [1, 2, 40, 99, 100, 101, N])
def test_few_judged_images_are_not_representative(n):
    some = Bitmap.of([True] * n)
    steps = {"steps": 20, "step_size": EPSILON / 4}
    results = {
        "clean": result("clean", "clean", some),
        "pgd-20": result("pgd-20", "pgd", some, **steps),
        "cw-20": result("cw-20", "cw", some, **steps),
    }
    unknown = {"classes": None, "classes_judged": None, "held_out": None}
    seen = record(results, dataset="digits", mask=None, **unknown)
    assert failing(seen) == (["representative"] if n < 100 else [])
    (check,) = [c for c in audit(seen).checks if c.name == "representative"]
    assert check.detail.startswith(f"{n} judged images")


def test_what_the_best_weights_were_chosen_on_is_said():
    (check,) = [c for c in audit(record(held_out=3)).checks if c.name == "representative"]
    assert check.detail == "400 judged images of 10 classes; `best` chosen on 3 held-out ones"


def test_every_rule_has_a_planted_defect_and_says_what_to_do():
    assert {rule.name for rule in RULES} == {rule for rule, _, _ in PLANTED}
    assert all(rule.advice.endswith(".") for rule in RULES)


def test_the_published_figure_would_have_been_caught():
    """72.73 % 'robust' from an evaluation that never attacked: clean accuracy again."""
    still = evidence(max_abs_delta=0.0, moved_fraction=0.0)
    results = {
        label: r
        if r.kind == "clean"
        else result(label, r.kind, first(330), steps=r.steps, step_size=r.step_size, evidence=still)
        for label, r in sound_results().items()
    }
    found = record(results)
    assert audit(found).verdict == "broken"
    assert "ran" in failing(found)


def test_without_a_strong_attack_the_verdict_is_incomplete():
    assert audit(without("cw-20", "autoattack")).verdict == "incomplete"
    assert audit(without("cw-20")).verdict == "sound"
    assert audit(without("pgd-20", "pgd-100")).verdict == "incomplete"


def test_a_budget_that_ended_an_attack_makes_the_verdict_incomplete():
    assert audit(with_result("autoattack", complete=False)).verdict == "incomplete"


def test_an_attack_at_a_smaller_radius_does_not_complete_an_evaluation():
    results = {k: r for k, r in sound_results().items() if k != "autoattack"}
    smaller = {"threat": ThreatModel(epsilon=Fraction(31, 1000))}
    seen = {"evidence": evidence(max_abs_delta=0.031)}
    weaker = results["cw-20"].model_copy(update=smaller | seen)
    assert audit(record({**results, "cw-20": weaker})).verdict == "incomplete"


def test_figures_of_a_cascade_are_not_compared_with_each_other():
    results = {
        label: r.model_copy(update={"cascaded": r.kind != "clean"})
        for label, r in sound_results().items()
    }
    outcomes = {check.name: check.outcome for check in audit(record(results)).checks}
    for rule in ("monotone", "converged", "noise", "autoattack-gap", "epsilon-sweep"):
        assert outcomes[rule] == "does-not-apply"
    assert outcomes["union-exact"] == outcomes["valid"] == "holds"


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (record(trained_at=None), "catastrophic-overfitting"),
        (record(dataset="digits"), "catastrophic-overfitting"),
        (record(dataset="digits"), "too-good"),
        (record(model="small-cnn"), "too-good"),
        (record(epsilon=Fraction(31, 1000)), "too-good"),
        (record(mask=None), "mask-alive"),
        (record(mismatches=None), "reproduced"),
        (record(logit_difference=None), "deterministic"),
        (record(gives_probabilities=None), "logits"),
        (record(seen_in_training=None), "held-out"),
        (record(dataset="digits"), "autoattack-gap"),
        (record(dataset="digits"), "converged"),
        (without("pgd-100"), "converged"),
        (without("noise"), "noise"),
        (without("autoattack"), "autoattack-smallest"),
        (without("autoattack"), "black-box"),
        (without("cw-20", "autoattack"), "black-box"),
        (without("pgd-20@16/255", "pgd-20@32/255", "pgd-20@64/255"), "epsilon-sweep"),
    ],
)
def test_a_rule_says_where_it_does_not_apply(found, rule):
    (check,) = [c for c in audit(found).checks if c.name == rule]
    assert check.outcome == "does-not-apply"


def test_a_transfer_is_a_black_box_and_its_surrogates_gradients_are_no_fault_of_the_network():
    results = sound_results()
    seen = evidence(zero_gradient_fraction=0.5)
    results["transfer"] = result("transfer", "transfer", first(150), evidence=seen)
    assert failing(record(results)) == ["autoattack-smallest", "black-box"]
    still = result("transfer", "transfer", first(250), evidence=evidence(moved_fraction=0.0))
    assert failing(record(sound_results() | {"transfer": still})) == ["ran"]


def test_square_alone_is_compared_with_the_union_of_white_boxes():
    results = sound_results() | {"square": result("square", "square", first(190))}
    assert failing(record(results)) == []
    results["square"] = result("square", "square", first(150))
    assert "black-box" in failing(record(results))


def test_a_network_that_knows_nothing_gives_attacks_nothing_to_do():
    results = {
        label: result(
            label, r.kind, first(0), steps=r.steps, step_size=r.step_size, threat=r.threat
        )
        for label, r in sound_results().items()
    }
    report = audit(record(results))
    assert report.verdict == "sound"
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes["valid"] == outcomes["ran"] == "does-not-apply"


def test_the_tolerance_is_two_paired_standard_errors_or_a_fifth_of_a_point():
    same = Bitmap.of([True] * 10_000)
    assert tolerance(same, same) == 0.002
    flipped = Bitmap.of(i >= 400 for i in range(10_000))
    spread = binomtest(400, 10_000).proportion_estimate
    expected = 2 * (spread * (1 - spread) / 10_000) ** 0.5
    assert tolerance(same, flipped) == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.data())
def test_bitmaps_are_booleans(flags, data):
    others = data.draw(st.lists(st.booleans(), min_size=len(flags), max_size=len(flags)))
    a, b = Bitmap.of(flags), Bitmap.of(others)
    assert Bitmap.decode(a.encode(), len(flags)) == a
    assert a.count() == sum(flags)
    assert a & b == Bitmap.of(x and y for x, y in zip(flags, others, strict=True))
    assert a | b == Bitmap.of(x or y for x, y in zip(flags, others, strict=True))
    assert ~a == Bitmap.of(not x for x in flags)
    with pytest.raises(ValueError, match="cannot hold"):
        Bitmap.decode(a.encode(), len(flags) + 8)
    with pytest.raises(ValueError, match="not of the same samples"):
        a & Bitmap.of([*flags, True])
