"""What else a hand may write, held against the specs without a server."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from pydantic import BaseModel, StringConstraints

from domain import forms, wording
from domain.base import SpecModel
from domain.errors import SpecInvalid
from domain.presets import TrainSpec, expand, named_sources
from domain.wording import shown, unknown
from tests.fuzzing import DATA, LEAKS, LONG, STARTS, STRANGE, all_places, arms, places

RUN = "0" * 18
TRAINED = expand({"preset": "part++", "data": DATA, "model": {"name": "small-cnn"}})


def outcome(body: Mapping[str, Any]) -> str:
    """Expand a submission as the API does; return what it is told, empty if it is right."""
    assert isinstance(TRAINED, TrainSpec)
    try:
        known = {pointer: TRAINED for pointer, given in named_sources(body) if given}
        source = known.pop("/source", None)
        spec = expand(body, source=source, others=known)
    except SpecInvalid as error:
        return str(error)
    # What was stored is read again, by evaluations that start from it.
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    return ""


@pytest.mark.parametrize("title", STRANGE)
def test_a_strange_value_in_any_field_is_read_as_it_is_or_told(title):
    for place in all_places(RUN):
        said = outcome(place.put(STRANGE[title]))
        assert not [words for words in LEAKS if words in said], (place.pointer, said)
        assert LONG[:200] not in said
        assert len(said) < 10_000


@pytest.mark.parametrize("kind", STARTS, ids=lambda kind: kind.__name__)
def test_what_the_fuzz_changes_is_right_before(kind):
    """Otherwise something else would be refused than the value."""
    seen = set()
    for place in places(kind, RUN):
        required = place.model.model_fields[place.name].is_required() or place.name in NEEDED
        if place.model in seen or required:
            continue
        seen.add(place.model)
        said = outcome(_without(place.put(None), place.pointer))
        assert not said or any(words in said for words in EXCEPT), (place.pointer, said)


NEEDED = {"kind", "points", "preset", "run", "epsilon_low"}
EXCEPT = ("give 3 weights", "only `test_limit` may differ", "leave `method` out")
"""What cannot be right in one place alone: weights a map, the data and method of other weights."""


def _without(body: Any, pointer: str) -> Any:
    """Return a body without the field at a pointer."""
    first, _, rest = pointer.removeprefix("/").partition("/")
    if isinstance(body, list):
        return [
            _without(item, f"/{rest}") if i == int(first) else item for i, item in enumerate(body)
        ]
    if not rest:
        return {name: item for name, item in body.items() if name != first}
    return {name: _without(v, f"/{rest}") if name == first else v for name, v in body.items()}


def models() -> set[type[BaseModel]]:
    return {place.model for place in all_places(RUN)}


def test_every_value_written_by_hand_is_of_a_strict_model():
    assert len(models()) > 50
    assert all(issubclass(model, SpecModel) for model in models())


def test_every_list_of_a_spec_has_a_greatest_length():
    for place in all_places(RUN):
        annotation = place.model.model_fields[place.name].annotation
        if any(is_item for _, is_item in arms(annotation)) or "tuple" in str(annotation):
            assert "at most" in outcome(place.put([1] * 100_000)), place.pointer


def patterns(annotation: object) -> set[str]:
    own = {annotation.pattern} if isinstance(annotation, StringConstraints) else set()
    for inner in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        own |= patterns(inner)
    return {str(pattern) for pattern in own if pattern}


def test_every_pattern_of_a_spec_is_put_into_words():
    fields = [field for model in models() for field in model.model_fields.values()]
    used = set()
    for field in fields:
        used |= patterns(field.annotation)
        used |= {str(m.pattern) for m in field.metadata if getattr(m, "pattern", None)}
    assert len(used) >= 4
    assert used <= set(forms.WORDS)


@pytest.mark.parametrize(
    ("name", "allowed", "hint"),
    ids=range(6),
    argvalues=[
        ("prt++", ["part", "part++"], "did you mean part++"),
        ("CIFAR10", ["cifar10", "svhn"], "did you mean cifar10"),
        ("zzz", ["a", "b"], "'zzz'; allowed: a, b"),
        (LONG, ["a"], "…; allowed: a"),
        ([1], ["a"], "name a thing, not a list; allowed: a"),
        ("x", [f"n{i}" for i in range(30)], "and 10 more"),
    ],
)
def test_a_wrong_name_is_told_what_was_meant(name, allowed, hint):
    said = unknown("thing", name, allowed)
    assert hint in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "value", [LONG, [LONG], {LONG: 1}, 10**5000, -(10**400), 1.5, None, True], ids=range(8)
)
def test_an_echo_is_short(value):
    assert len(shown(value)) < 100


def test_an_error_that_the_table_does_not_know_is_plain_too():
    error = {"type": "date_past", "msg": "Input should be in the past", "input": "x", "ctx": {}}
    assert wording.sentence(error) == "'x' is not what belongs here"


NAMES = [
    ({"preset": "prt++"}, "/preset", "did you mean part++"),
    ({"data": {"dataset": "cifar"}}, "/data/dataset", "did you mean cifar"),
    ({"model": {"name": "resent18"}}, "/model/name", "did you mean resnet18"),
    ({"kind": "trian"}, "/kind", "did you mean train"),
    ({"evaluation": {"suite": "qiuck"}}, "/evaluation/suite", "did you mean quick"),
    ({"training": {"epoch": 3}}, "/training/epoch", "did you mean epochs"),
    ({"evaluation": {"attacks": [{"kind": "pdg"}]}}, "/evaluation/attacks/0/kind", "mean pgd"),
    ({"method": {"mask": {"kind": "sigmod-mean"}}}, "/method/mask/kind", "mean sigmoid-mean"),
    ({"training": {"schedule": "cosin"}}, "/training/schedule", "did you mean cosine"),
    ({"method": {"cam": {"members": ["gradcam"]}}}, "/method/cam/members/0", "mean grad-cam"),
]


@pytest.mark.parametrize(("over", "pointer", "hint"), NAMES)
def test_a_misspelt_name_is_told_what_was_meant(over, pointer, hint):
    with pytest.raises(SpecInvalid) as caught:
        expand({"preset": "part++", "data": DATA, **over})
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert hint in error.detail


STRICT = [
    ({"seed": True}, "/seed"),
    ({"seed": "3"}, "/seed"),
    ({"seed": 3.5}, "/seed"),
    ({"training": {"learning_rate": "0.1"}}, "/training/learning_rate"),
    ({"training": {"learning_rate": True}}, "/training/learning_rate"),
    ({"training": {"nesterov": "off"}}, "/training/nesterov"),
    ({"training": {"nesterov": 0}}, "/training/nesterov"),
    ({"schema_version": True}, "/schema_version"),
    ({"method": {"attack": {"steps": True}}}, "/method/attack/steps"),
    ({"training": {"milestones": [0.1, True]}}, "/training/milestones/1"),
    ({"method": {"mask": {"tau": {"points": [[0, "3"]]}}}}, "/method/mask/tau/points/0/1"),
    (
        {"evaluation": {"corruptions": {"severities": [True]}}},
        "/evaluation/corruptions/severities/0",
    ),
]


@pytest.mark.parametrize(("over", "pointer"), STRICT)
def test_nothing_is_read_as_what_it_is_not(over, pointer):
    with pytest.raises(SpecInvalid) as caught:
        expand({"preset": "part++", "data": DATA, **over})
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_a_whole_number_may_have_a_point():
    spec = expand({"preset": "part++", "data": DATA, "seed": 3.0, "training": {"epochs": 1e1}})
    assert isinstance(spec, TrainSpec)
    assert (spec.seed, spec.training.epochs) == (3, 10)
    assert type(spec.seed) is int


def test_many_errors_are_told_in_a_few():
    with pytest.raises(SpecInvalid) as caught:
        expand(
            {
                "preset": "part++",
                "data": DATA,
                "training": dict.fromkeys(("epochs", "batch_size", "momentum", "nesterov"), "x"),
                "tags": [1] * 32,
            }
        )
    assert len(caught.value.errors) == 21
    assert "more errors" in caught.value.errors[-1].detail


@pytest.mark.parametrize("classes", [True, -1, 0, 1, 2, 3, 10**30])
@pytest.mark.parametrize("suite", ["quick", "report", "standard", "paper"])
def test_a_suite_is_written_out_for_any_count_of_classes(suite, classes):
    data = {"dataset": "image-folder", "folder": "x", "classes": classes}
    outcome({"preset": "pgd-at", "data": data, "evaluation": {"suite": suite}})
