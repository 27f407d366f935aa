"""What a submission may say of the networks its transfer attacks are made on."""

from typing import Any

import pytest

from domain.attacks import Transfer
from domain.errors import SpecInvalid
from domain.presets import MOST_TRANSFERS, RUN_SPEC, Uploaded, expand, named_sources
from domain.spec import EvaluateSpec, TrainSpec, surrogates

RUN, UPLOAD = "01kb7qz3h4m8x2v9ap", "01kb7qz3h4m8x2v9aq"
HERE = "/evaluation/attacks/0/source"
DIGITS_NETWORK = Uploaded("small-cnn", channels=1, classes=10)
OTHER = {"kind": "transfer", "source": {"checkpoint": UPLOAD}}


def submission(*attacks: dict[str, Any], **over: Any) -> dict[str, Any]:
    data = {"dataset": "digits"}
    return {"preset": "part", "data": data, "evaluation": {"attacks": list(attacks)}, **over}


def with_transfer(attack: dict[str, Any], known: TrainSpec | Uploaded = DIGITS_NETWORK) -> Transfer:
    spec = expand(submission(attack), others={HERE: known})
    assert isinstance(spec, TrainSpec)
    (found,) = spec.evaluation.attacks
    assert isinstance(found, Transfer)
    assert RUN_SPEC.validate_json(spec.model_dump_json()) == spec, "a stored spec reads as it was"
    return found


def refusal(raw: dict[str, Any], others: dict[str, Uploaded]) -> tuple[str, str]:
    with pytest.raises(SpecInvalid) as caught:
        expand(raw, others=others)
    (error,) = caught.value.errors
    return error.pointer, error.detail


def test_the_network_is_written_into_the_attack():
    found = with_transfer({**OTHER, "steps": 30})
    assert (found.model.name, found.steps) == ("small-cnn", 30)
    assert found.label == f"transfer-{UPLOAD[-8:]}-30"


def test_a_run_that_was_trained_here_is_a_source_too():
    trained = expand({"preset": "part", "data": {"dataset": "digits"}})
    assert isinstance(trained, TrainSpec)
    found = with_transfer({"kind": "transfer", "source": {"run": RUN}}, trained)
    assert (found.model, found.source.key) == (trained.model, f"{RUN}-best")


def test_best_and_last_weights_of_one_run_are_two_attacks():
    attacks = [
        {"kind": "transfer", "source": {"run": RUN, "weights": weights}}
        for weights in ("best", "last")
    ]
    raw = submission(*attacks)
    found = dict(named_sources(raw))
    assert list(found) == [HERE, HERE.replace("/0/", "/1/")]
    spec = expand(raw, others=dict.fromkeys(found, DIGITS_NETWORK))
    assert isinstance(spec, TrainSpec)
    assert len({attack.label for attack in spec.evaluation.attacks}) == 2
    assert set(surrogates(spec)) == {f"{RUN}-best", f"{RUN}-last"}


def test_an_evaluation_has_a_source_of_its_own_and_those_of_its_attacks():
    raw = {"kind": "evaluate", "source": {"run": RUN}, "evaluation": {"attacks": [OTHER]}}
    assert dict(named_sources(raw)) == {"/source": {"run": RUN}, HERE: {"checkpoint": UPLOAD}}
    own = expand({"preset": "part", "data": {"dataset": "digits"}})
    assert isinstance(own, TrainSpec)
    spec = expand(raw, source=own, others={HERE: DIGITS_NETWORK})
    assert isinstance(spec, EvaluateSpec)
    assert set(surrogates(spec)) == {UPLOAD}


def test_sources_are_read_from_any_body():
    assert list(named_sources({"evaluation": {"attacks": "x"}})) == []
    assert dict(named_sources({"kind": "evaluate", "source": 7})) == {"/source": {}}
    assert dict(named_sources(submission({"kind": "transfer"}))) == {HERE: {}}


@pytest.mark.parametrize(
    ("attack", "known", "pointer", "says"),
    [
        ({"kind": "transfer"}, None, HERE, "id of a training run"),
        (
            {**OTHER, "model": {"name": "resnet18"}},
            DIGITS_NETWORK,
            HERE.replace("source", "model"),
            "leave `model` out",
        ),
        (OTHER, Uploaded("small-cnn", 3, 10), HERE, "3 channels and 10 classes"),
        (OTHER, Uploaded("small-cnn", 1, 7), HERE, "1 channels and 7 classes"),
        (OTHER, Uploaded("torchvision:densenet121", 1, 10), HERE, "takes images of"),
    ],
)
def test_a_source_that_does_not_fit_is_named_with_what_would(attack, known, pointer, says):
    told = refusal(submission(attack), {} if known is None else {HERE: known})
    assert told[0] == pointer
    assert says in told[1]


def test_networks_in_memory_are_bounded():
    raw = submission(*[{**OTHER, "steps": n + 1} for n in range(MOST_TRANSFERS + 1)])
    with pytest.raises(SpecInvalid, match=f"at most {MOST_TRANSFERS}"):
        list(named_sources(raw))
