"""Corruptions in an evaluation, from its spec to its record."""

from pathlib import Path
from typing import Any

import pytest
import torch

from domain.events import Evaluated, Progress
from domain.presets import expand
from domain.results import Evaluation, wilson_interval
from partcore.environment import Environment
from partcore.evaluation import unpack
from partcore.experiment import run_experiment
from partcore.training import BEST

TRAINED: dict[str, Any] = {
    "preset": "standard",
    "data": {"dataset": "digits", "train_limit": 400, "test_limit": 60},
    "training": {"epochs": 4, "batch_size": 50, "ema_decay": None},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}
SOME = {"kinds": ["gaussian-noise", "elastic", "jpeg"], "severities": [1, 5]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("trained")
    for _ in run_experiment(expand(TRAINED), Environment(work=work, data_root=work)):
        pass
    return work / BEST


def judged(trained: Path, work: Path, **evaluation: Any) -> tuple[Evaluation, list[Progress]]:
    body = {"kind": "evaluate", "source": {"run": "0" * 18}, "evaluation": evaluation}
    spec = expand(body, source=expand(TRAINED))
    environment = Environment(work=work, data_root=work, source_checkpoint=trained, resume=True)
    events = list(run_experiment(spec, environment))
    (found,) = (event.evaluation for event in events if isinstance(event, Evaluated))
    return found, [event for event in events if isinstance(event, Progress)]


def test_an_evaluation_tells_of_corruptions_apart_from_its_attacks(trained, tmp_path):
    plain, _ = judged(trained, tmp_path)
    found, progress = judged(trained, tmp_path, corruptions=SOME)
    labels = [f"{kind}@{s}" for kind in SOME["kinds"] for s in SOME["severities"]]
    assert [result.label for result in found.corruptions] == labels
    for result in found.corruptions:
        standing = unpack(result.outcomes, 60)
        assert result.n == 60
        assert result.correct == standing.sum()
        assert result.accuracy == result.correct / 60
        assert result.interval == wilson_interval(result.correct, 60)
    assert 0.5 < found.mean_corruption_accuracy < 1
    assert found.corruptions[0].correct > found.corruptions[3].correct
    assert plain.corruptions == ()
    assert found.worst_case == plain.worst_case.model_copy(
        update={"seconds": found.worst_case.seconds}
    )
    assert [r.outcomes for r in found.results] == [r.outcomes for r in plain.results]
    assert found.audit == plain.audit
    assert [p.done for p in progress if p.detail == "elastic@5"] == [60]


def test_no_outcome_depends_on_the_batch_on_the_others_or_on_another_attempt(trained, tmp_path):
    whole, _ = judged(trained, tmp_path, corruptions=SOME)
    again, _ = judged(trained, tmp_path, corruptions=SOME)
    small, progress = judged(trained, tmp_path, corruptions=SOME, batch_size=7)
    assert whole.corruptions == again.corruptions == small.corruptions
    assert [p.done for p in progress if p.detail == "jpeg@1"] == [*range(7, 60, 7), 60]
    other = {"kinds": ["jpeg", "gaussian-noise"], "severities": [5]}
    fewer, _ = judged(trained, tmp_path, corruptions=other, images=20)
    by_label = {result.label: unpack(result.outcomes, 60) for result in whole.corruptions}
    assert [result.label for result in fewer.corruptions] == ["jpeg@5", "gaussian-noise@5"]
    for result in fewer.corruptions:
        assert torch.equal(unpack(result.outcomes, 20), by_label[result.label][:20])
