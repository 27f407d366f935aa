"""Transfer attacks on networks whose robustness is known in closed form, and on trained ones."""

from typing import Any

import pytest
import torch
from torch import nn

from domain import spec as s
from partcore.environment import Environment
from partcore.evaluation import evaluate
from partcore.standing import FILE, Outcome
from tests.partcore.test_evaluation import ENVIRONMENT, EPSILON, Threshold, Turned, expected, images

UPLOAD = "01kb7qz3h4m8x2v9aq"
TRANSFER = {
    "kind": "transfer",
    "source": {"checkpoint": UPLOAD},
    "model": {"name": "small-cnn"},
}


def judged(
    surrogate: nn.Module, *attacks: dict[str, Any], environment: Environment = ENVIRONMENT
) -> dict[str, Outcome]:
    """Outcomes of the threshold network; a Progress at a time, to the end."""
    spec = s.EvaluationSpec(epsilon=EPSILON, attacks=attacks, batch_size=64)
    told = evaluate(
        Threshold(),
        images(),
        spec,
        seed=3,
        environment=environment,
        surrogates={UPLOAD: surrogate.eval()},
    )
    while True:
        try:
            next(told)
        except StopIteration as end:
            return end.value


def only(outcomes: dict[str, Outcome]) -> Outcome:
    (outcome,) = (o for label, o in outcomes.items() if label != "clean")
    return outcome


def test_images_made_on_a_twin_break_what_can_be_broken():
    found = only(judged(Threshold(), TRANSFER))
    assert torch.equal(found.correct, expected())
    assert found.result.threat is not None
    assert found.result.threat.epsilon == EPSILON


def test_images_made_on_an_opposite_network_break_nothing():
    """Its loss falls where the other's rises, so every step helps the network under test."""
    found = only(judged(nn.Sequential(Threshold(), Turned()), TRANSFER))
    assert found.result.correct == 246


def test_what_the_surrogate_computes_is_counted_and_the_other_is_asked_once_an_image():
    surrogate = Threshold()
    found = only(judged(surrogate, {**TRANSFER, "steps": 7}))
    assert surrogate.seen["images"] == 7 * 246
    assert found.result.passes == (7 + 1) * 246


def test_the_record_says_whose_images_they_are():
    surrogate = nn.Sequential(Threshold(), nn.BatchNorm1d(2))
    found = only(judged(surrogate, TRANSFER)).result
    assert found.surrogate is not None
    assert (found.surrogate.source.checkpoint, found.surrogate.model) == (UPLOAD, "small-cnn")
    with torch.no_grad():
        surrogate[1].weight += 1
    again = only(judged(surrogate, TRANSFER)).result
    assert again.surrogate is not None
    assert again.surrogate.model_sha256 != found.surrogate.model_sha256


class Interrupted(Exception):
    """The evaluation was stopped."""


@pytest.mark.parametrize("same", [True, False])
def test_an_interrupted_one_goes_on_with_the_same_surrogate_only(tmp_path, same):
    """What another network's images broke is not taken over."""

    class Dying(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.seen["images"] > 1000:
                raise Interrupted
            return super().forward(x)

    twice = ({**TRANSFER, "steps": 5, "restarts": 2},)
    place = Environment(
        work=tmp_path, data_root=tmp_path, resume=True, checkpoint_requested=lambda: True
    )
    with pytest.raises(Interrupted):
        judged(Dying(), *twice, environment=place)
    assert (tmp_path / FILE).exists()
    surrogate: nn.Module = Threshold()
    if not same:
        surrogate = nn.Sequential(surrogate, nn.BatchNorm1d(2))
    counter = surrogate if isinstance(surrogate, Threshold) else surrogate[0]
    whole = only(judged(Threshold(), *twice))
    resumed = only(judged(surrogate, *twice, environment=place))
    assert torch.equal(resumed.correct, whole.correct)
    assert (counter.seen["images"] < 5 * 246) is same
