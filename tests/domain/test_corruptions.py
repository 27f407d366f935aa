"""What a spec may ask for, and the means that are told of it."""

from typing import Any

import pytest

from domain.corruptions import KINDS, CorruptionSpec, corruption_label
from domain.errors import SpecInvalid
from domain.presets import expand
from domain.results import CorruptionResult, Evaluation, wilson_interval
from domain.spec import EvaluateSpec, TrainSpec
from partlab.specfile import apply_settings
from tests.domain.test_audit import first
from tests.domain.test_compare import evaluation

TRAINED = {"preset": "standard", "data": {"dataset": "digits"}}


def evaluate(*settings: str) -> EvaluateSpec:
    """As `part evaluate RUN --set ...` submits it."""
    source = expand(TRAINED)
    assert isinstance(source, TrainSpec)
    body = {"kind": "evaluate", "source": {"run": "0" * 18}}
    spec = expand(apply_settings(body, settings), source=source)
    assert isinstance(spec, EvaluateSpec)
    return spec


def test_without_a_word_there_are_none():
    spec = expand(TRAINED)
    assert isinstance(spec, TrainSpec)
    assert spec.evaluation.corruptions is None
    assert evaluate().evaluation == spec.evaluation


def test_an_empty_object_is_all_of_them():
    assert evaluate("evaluation.corruptions={}").evaluation.corruptions == CorruptionSpec()
    assert CorruptionSpec().kinds == KINDS
    assert CorruptionSpec().severities == (1, 2, 3, 4, 5)


def test_some_of_them():
    found = evaluate(
        "evaluation.corruptions.kinds=[fog, jpeg]", "evaluation.corruptions.severities=[5, 1]"
    ).evaluation
    assert found.corruptions == CorruptionSpec(kinds=("fog", "jpeg"), severities=(5, 1))
    assert found.attacks == evaluate().evaluation.attacks
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ("kinds=[frost]", "/evaluation/corruptions/kinds/0"),
        ("kinds=[]", "/evaluation/corruptions/kinds"),
        ("kinds=[fog, fog]", "/evaluation/corruptions/kinds"),
        ("severities=[]", "/evaluation/corruptions/severities"),
        ("severities=[0]", "/evaluation/corruptions/severities/0"),
        ("severities=[6]", "/evaluation/corruptions/severities/0"),
        ("severities=[3, 3]", "/evaluation/corruptions/severities"),
        ("strength=3", "/evaluation/corruptions/strength"),
    ],
)
def test_what_is_no_corruption_is_refused_where_it_stands(wrong, pointer):
    with pytest.raises(SpecInvalid) as told:
        evaluate(f"evaluation.corruptions.{wrong}")
    assert told.value.errors[0].pointer == pointer


def result(kind: str, severity: int, correct: int) -> CorruptionResult:
    return CorruptionResult(
        label=corruption_label(kind, severity),
        kind=kind,
        severity=severity,
        n=100,
        correct=correct,
        accuracy=correct / 100,
        interval=wilson_interval(correct, 100),
        outcomes="",
    )


def test_means_are_of_severities_then_of_kinds():
    found = (result("fog", 1, 90), result("fog", 5, 50), result("jpeg", 3, 80))
    judged = evaluation(first(200), corruptions=found)
    assert judged.accuracy_by_corruption() == pytest.approx({"fog": 0.7, "jpeg": 0.8})
    assert judged.mean_corruption_accuracy == pytest.approx(0.75)
    assert evaluation(first(200)).mean_corruption_accuracy is None


def test_a_record_of_before_is_one_without_corruptions():
    stored: dict[str, Any] = evaluation(first(200)).model_dump(mode="json")
    assert stored.pop("corruptions") == []
    assert Evaluation.model_validate(stored) == evaluation(first(200))
