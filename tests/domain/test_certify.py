"""An evaluation reproduces, or it does not, or it was another question."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bitmap import Bitmap
from domain.certify import REPRODUCES, Certificate, certify, submission
from domain.presets import Uploaded, expand
from domain.results import ThreatModel
from domain.spec import EvaluateSpec, TrainSpec
from tests.domain.test_audit import N, first, result
from tests.domain.test_compare import evaluation

RUN, OTHER = "0" * 18, "1" * 18


def trained(**over: Any) -> TrainSpec:
    raw = {"preset": "pgd-at", "data": {"dataset": "digits", "test_limit": 90}, "seed": 7, **over}
    spec = expand(raw)
    assert isinstance(spec, TrainSpec)
    return spec


@given(st.integers(0, 2**N - 1))
def test_a_record_certifies_against_itself(bits):
    found = evaluation(Bitmap(bits, N))
    certificate = certify(found, found)
    assert certificate.reproduces
    assert {row.outcome for row in certificate.rows} == {"same image by image"}
    assert certificate.provenance == certificate.provenance_again
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate


@given(st.integers(0, N), st.integers(0, N))
def test_other_outcomes_reproduce_inside_the_first_interval_alone(here, there):
    one, other = evaluation(first(here)), evaluation(first(there))
    certificate = certify(one, other)
    interval = one.worst_case.interval
    inside = here == there or interval.low <= there / N <= interval.high
    assert certificate.reproduces is inside
    clean, pgd, worst = certificate.rows
    assert clean.outcome == "same image by image"
    assert pgd.changed == worst.changed == abs(here - there)
    assert (pgd.outcome in REPRODUCES) is inside
    assert (pgd.outcome == "same image by image") is (here == there)


@given(st.integers(0, N))
def test_outcomes_turned_round_beyond_the_interval_do_not_reproduce(standing):
    flipped = certify(evaluation(first(standing)), evaluation(~first(standing)))
    pgd = flipped.rows[1]
    assert pgd.changed == N
    inside = pgd.interval.low <= 1 - standing / N <= pgd.interval.high
    assert pgd.outcome == ("within its interval" if inside else "does not reproduce")


def test_as_many_other_images_are_within_the_interval_and_counted():
    moved = first(200) & ~first(10) | (first(210) & ~first(200))
    row = certify(evaluation(first(200)), evaluation(moved)).rows[1]
    assert (row.outcome, row.changed) == ("within its interval", 20)


@pytest.mark.parametrize("name", ["model_sha256", "data_sha256", "sample_ids_sha256"])
def test_other_weights_or_images_are_another_question(name):
    certificate = certify(evaluation(first(9)), evaluation(first(9), **{name: "x"}))
    assert not certificate.reproduces
    assert certificate.rows == ()
    (told,) = certificate.differences
    assert f"{name} " in told
    assert told.endswith(" and x")


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"threat": ThreatModel(epsilon=Fraction(31, 1000))}, "another threat model"),
        ({"complete": False}, "one ran to its end"),
        ({"cascaded": True}, "only survivors"),
        ({"steps": 7, "restarts": 2}, "another strength of the attack"),
    ],
)
def test_an_attack_of_another_strength_is_another_question(over, why):
    one = evaluation(first(200))
    changed = result("pgd-20", "pgd", first(200), **over)
    other = one.model_copy(update={"results": (one.results[0], changed)})
    row = certify(one, other).rows[1]
    assert (row.outcome, row.again, row.changed) == ("not the same question", None, None)
    assert why in row.why


def test_an_attack_that_was_not_repeated_is_told():
    one = evaluation(first(200))
    certificate = certify(one, one.model_copy(update={"results": one.results[:1]}))
    assert [row.why for row in certificate.rows] == ["", "the attack was not repeated", ""]
    assert not certificate.reproduces


@pytest.mark.parametrize("suite", ["quick", "standard", "paper"])
def test_a_training_is_asked_its_own_evaluation_again(suite):
    spec = trained(evaluation={"suite": suite, "weights": "last", "cascade": True})
    asked = expand(submission(RUN, spec), source=spec)
    assert isinstance(asked, EvaluateSpec)
    assert (asked.source.run, asked.source.weights) == (RUN, "last")
    assert asked.evaluation == spec.evaluation.model_copy(update={"suite": None})
    assert (asked.seed, asked.data, asked.resources) == (7, spec.data, spec.resources)


def test_an_evaluation_is_asked_again_of_its_own_source():
    source = trained()
    body = {"kind": "evaluate", "source": {"run": OTHER, "weights": "last"}, "seed": 3}
    spec = expand({**body, "data": {"test_limit": 40}}, source=source)
    assert isinstance(spec, EvaluateSpec)
    asked = expand(submission(RUN, spec), source=source)
    assert isinstance(asked, EvaluateSpec)
    assert asked.source == spec.source
    assert (asked.seed, asked.data, asked.evaluation) == (3, spec.data, spec.evaluation)
    assert asked.name == f"certify {RUN}"
    assert expand(submission(RUN, spec, seed=0), source=source).seed == 0


def test_an_evaluation_of_uploaded_weights_is_asked_again_of_the_same_images():
    upload = Uploaded("small-cnn", channels=3, classes=2)
    folder = {"dataset": "image-folder", "folder": "ours", "classes": 2, "test_limit": 40}
    body = {"kind": "evaluate", "source": {"checkpoint": OTHER}, "data": folder, "seed": 3}
    spec = expand(body, source=upload)
    assert isinstance(spec, EvaluateSpec)
    asked = expand(submission(RUN, spec), source=upload)
    assert isinstance(asked, EvaluateSpec)
    assert (asked.source, asked.data, asked.model) == (spec.source, spec.data, spec.model)
    assert asked.evaluation == spec.evaluation
