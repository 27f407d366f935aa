"""Runs on very few images: they train, with a word about what is too small, or are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from domain.errors import SpecInvalid, SpecUnsatisfiable
from domain.events import Evaluated, Finished, Log, Metrics
from domain.presets import expand
from partcore.data import load
from partcore.environment import Environment, configure
from partcore.experiment import run_experiment
from partcore.ranks import Ranks
from partcore.training import Trainer

FEW: dict[str, Any] = {
    "preset": "part++",
    "method": {"attack": {"steps": 1}, "warmup_epochs": 0},
    "training": {"epochs": 1, "batch_size": 32},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    configure(Environment(work=Path(), data_root=Path(), threads=1))
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)  # noqa: FBT003


def spec_of(data: dict[str, Any], **training: Any):
    body = {**FEW, "training": {**FEW["training"], **training}}
    return expand({**body, "data": {"dataset": "digits", **data}})


def trainer_of(spec, work: Path) -> Trainer:
    split = load(spec.data, work, seed=spec.seed)
    return Trainer(spec, split, Environment(work, work))


def warnings_in(events) -> list[str]:
    return [e.message for e in events if isinstance(e, Log) and e.level == "warning"]


@pytest.mark.parametrize("held_out", range(10))
def test_a_run_with_few_held_out_images_trains(tmp_path, held_out):
    """Score-CAM's fidelity is measured after the epoch on up to eight of them."""
    spec = spec_of({"train_limit": 40, "validation_fraction": held_out / 40, "test_limit": 20})
    trainer = trainer_of(spec, tmp_path)
    assert len(trainer.validation) == held_out
    events = [*trainer.run(), *trainer.finish()]
    names = {name for e in events if isinstance(e, Metrics) for name in e.values}
    assert "cam/fidelity" in names
    assert ("val/robust_accuracy" in names) == (held_out > 0)
    assert trainer.best is not None


@pytest.mark.parametrize(
    ("data", "training"),
    [
        ({"train_limit": 2, "validation_fraction": 0, "test_limit": 1}, {}),
        ({"train_limit": 3, "validation_fraction": 0.4, "test_limit": 2}, {}),
        ({"train_limit": 8, "validation_fraction": 0.1, "test_limit": 1}, {"batch_size": 4096}),
        ({"train_limit": 33, "validation_fraction": 0, "test_limit": 5}, {"batch_size": 32}),
        ({"train_limit": 9, "validation_fraction": 0.5, "test_limit": 3}, {"accumulation": 16}),
    ],
)
def test_the_smallest_runs_go_to_their_end(tmp_path, data, training):
    environment = Environment(tmp_path, tmp_path)
    events = list(run_experiment(spec_of(data, **training), environment))
    assert isinstance(events[-1], Finished)
    (evaluated,) = [e.evaluation for e in events if isinstance(e, Evaluated)]
    (check,) = [c for c in evaluated.audit.checks if c.name == "representative"]
    assert check.outcome == "fails"
    assert f"{data['test_limit']} judged images" in check.detail
    assert "classes have no judged image" in check.detail
    assert any("classes have no test image" in message for message in warnings_in(events))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train_limit": 7, "validation_fraction": 0}, "3 of 10 classes have no training image"),
        ({"test_limit": 4}, "6 of 10 classes have no test image among 4; raise data.test_limit"),
        ({"train_limit": 50}, "chosen on 5 held-out images"),
        ({"train_limit": 10, "validation_fraction": 0.01}, "holds out none"),
    ],
)
def test_what_is_too_small_is_said_before_training(data, message):
    spec = spec_of(data)
    assert message in "\n".join(warnings_in(load(spec.data, Path(), seed=1).log))


def test_nothing_is_said_of_a_whole_dataset():
    assert load(spec_of({}).data, Path(), seed=1).log == ()


@pytest.mark.parametrize(
    ("data", "training", "message"),
    [
        ({"train_limit": 1}, {}, "1 of 1 training images are left"),
        ({"train_limit": 4, "validation_fraction": 0.9}, {}, "lower data.validation_fraction"),
        ({"train_limit": 4}, {"early_stop": 1}, "holds out none"),
    ],
)
def test_too_few_images_are_refused(tmp_path, data, training, message):
    with pytest.raises(SpecUnsatisfiable, match=message):
        trainer_of(spec_of(data, **training), tmp_path)


def test_fewer_than_two_images_a_rank_are_refused(tmp_path):
    spec = spec_of({"train_limit": 3, "validation_fraction": 0})
    split = load(spec.data, tmp_path, seed=1)
    with pytest.raises(SpecUnsatisfiable, match="less than two for each of 2 ranks"):
        Trainer(spec, split, Environment(tmp_path, tmp_path, ranks=Ranks(0, 2)))


def test_a_batch_too_small_for_the_slots_is_refused_at_submit():
    with pytest.raises(SpecInvalid) as refused:
        expand(
            {
                "preset": "pgd-at",
                "data": {"dataset": "digits"},
                "training": {"batch_size": 6},
                "resources": {"cpu_slots": 4},
            }
        )
    (error,) = refused.value.errors
    assert error.pointer == "/training/batch_size"
    assert "4 slots" in error.detail
