"""Training end to end on real digits, small; the bits of a resumed run."""

import errno
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from domain.errors import CheckpointInvalid, DataMissing, DiskFull, ExperimentError
from domain.events import (
    ArtifactSaved,
    CheckpointSaved,
    Evaluated,
    Finished,
    Log,
    Metrics,
    Progress,
    Started,
)
from domain.presets import expand
from domain.recipes import PRESETS
from partcore import checkpoint
from partcore.data import load, to_unit
from partcore.ema import Average, decay_at
from partcore.environment import Environment, configure
from partcore.experiment import run_experiment
from partcore.methods import Budget, Uniform, perturbation
from partcore.modes import evaluating, frozen
from partcore.randomness import Streams, derive, epoch_order
from partcore.schedules import constant, cosine
from partcore.train import main
from partcore.training import BEST, LAST, Trainer
from partcore.validation import Best, Robustness
from tests.partcore.exact import EQUAL, in_float64, rounding

TINY: dict[str, Any] = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 200, "test_limit": 48},
    "training": {"epochs": 3, "batch_size": 64},
    "method": {"attack": {"steps": 2}, "warmup_epochs": 1},
    "evaluation": {"attacks": [{"kind": "fgsm"}, {"kind": "pgd", "steps": 8}]},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    configure(Environment(work=Path(), data_root=Path(), threads=1))
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)  # noqa: FBT003


def environment(work: Path, **over: Any) -> Environment:
    return Environment(work=work, data_root=work / "none", **over)


def spec_of(**over: Any):
    return expand({**TINY, **over})


def points(events) -> dict[str, dict[int, float]]:
    series: dict[str, dict[int, float]] = {}
    for event in events:
        if isinstance(event, Metrics):
            for name, values in event.values.items():
                series.setdefault(name, {}).update(zip(event.steps, values, strict=True))
    return series


def final_sha256(events) -> str:
    (file,) = [e for e in events if isinstance(e, ArtifactSaved) and e.kind == "weights"]
    return file.sha256


@pytest.mark.parametrize(
    ("preset", "read_at"),
    [("standard", ""), ("pgd-at", ""), ("part", "image"), ("part++", "image"), ("part++", "start")],
)
def test_a_run_tells_its_whole_story(tmp_path, preset, read_at):
    method: dict[str, Any] = {"attack": {"steps": 2}} if preset != "standard" else {}
    if preset.startswith("part"):
        method |= {"cam": {"read_at": read_at}, "warmup_epochs": 1}
    spec = spec_of(preset=preset, method=method)
    told = list(run_experiment(spec, environment(tmp_path)))
    assert isinstance(next(e for e in told if not isinstance(e, Progress)), Started)
    assert isinstance(told[-1], Finished)
    assert told[-1].summary["verdict"] == "incomplete"
    series = points(told)
    assert ("mask/mean" in series) == preset.startswith("part")
    assert "val/robust_accuracy" in series
    assert "val/ema/robust_accuracy" in series
    for event in told:
        if isinstance(event, ArtifactSaved | CheckpointSaved):
            saved = (tmp_path / event.file).read_bytes()
            assert len(saved) == event.size or event.file in (LAST, BEST)
    assert (tmp_path / "figures/budget.png").read_bytes().startswith(b"\x89PNG")


def short(preset: str, **over: Any):
    """A run of any preset, of a few steps; the random control draws from the run's generator."""
    method: dict[str, Any] = {} if preset == "standard" else {"attack": {"steps": 2}}
    if preset == "reproduce-official":
        method["mask"] = {"kind": "z-score"}
    if preset == "part++":
        method |= {"control": "random", "awp": {"gamma": 0.01, "warmup_epochs": 1}}
    body = {
        "preset": preset,
        "data": {"dataset": "digits", "train_limit": 140, "test_limit": 24},
        "method": method,
        "training": {"epochs": 4, "batch_size": 48},
        "evaluation": {"attacks": [{"kind": "fgsm"}]},
    }
    return expand({**body, **over})


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_run_cut_anywhere_resumes_to_the_same_bits(tmp_path, preset):
    """Cut in mid-epoch by a requested checkpoint, and between one checkpoint and the next."""
    spec = short(preset)
    whole = list(run_experiment(spec, environment(tmp_path / "whole")))
    cut, asked = tmp_path / "cut", [False]
    told: list[Any] = []
    for ask_at, stop_at in ((4, 4), (None, 8)):
        resume = (cut / LAST).exists()

        def requested() -> bool:
            now, asked[0] = asked[0], False
            return now

        events = run_experiment(
            spec, environment(cut, resume=resume, checkpoint_requested=requested)
        )
        for event in events:
            told.append(event)
            if not isinstance(event, Progress | CheckpointSaved) or getattr(event, "role", 0):
                if isinstance(event, CheckpointSaved) and event.role == "last" and ask_at:
                    break
                continue
            if event.phase == "train" and event.done == ask_at:
                asked[0] = True
            if event.phase == "train" and event.done == stop_at and not ask_at:
                break
        events.close()
    resumed = list(run_experiment(spec, environment(cut, resume=True)))
    assert final_sha256(resumed) == final_sha256(whole)
    merged = points([*told, *resumed])
    assert merged == points(whole)


def test_a_checkpoint_is_due_after_minutes_too(tmp_path):
    """A clock that goes on by ten seconds a look; epochs alone would never be enough."""
    training = {"epochs": 2, "batch_size": 32, "checkpoint_every": 1000}
    looks = itertools.count(0, 10)

    def steps_kept(minutes: float | None) -> list[int]:
        spec = spec_of(training={**training, "checkpoint_minutes": minutes})
        work = tmp_path / str(minutes)
        events = run_experiment(spec, environment(work, clock=lambda: float(next(looks))))
        return [e.step for e in events if isinstance(e, CheckpointSaved) and e.role == "last"]

    (only,) = steps_kept(None)
    found = steps_kept(1)
    assert found[-1] == only, "the end is kept in any case"
    assert len(found) > 2
    assert any(step % (only // 2) for step in found), "within an epoch"


def test_every_kth_checkpoint_is_kept_and_is_the_last_of_its_moment(tmp_path):
    spec = spec_of(training={"epochs": 5, "batch_size": 64, "checkpoint_every": 3, "keep_every": 2})
    told = list(run_experiment(spec, environment(tmp_path)))
    saved = [e for e in told if isinstance(e, CheckpointSaved) and e.role != "best"]
    assert [(e.role, e.epoch) for e in saved] == [
        *[("kept", 2), ("last", 2)],
        ("last", 3),
        *[("kept", 4), ("last", 4)],
        ("last", 5),
    ]
    assert [e.name for e in saved if e.role == "kept"] == [
        "checkpoints/epoch-0002.safetensors",
        "checkpoints/epoch-0004.safetensors",
    ]
    assert saved[0].sha256 == saved[1].sha256


def test_another_seed_is_another_run(tmp_path):
    first, second = (
        final_sha256(list(run_experiment(spec_of(seed=seed), environment(tmp_path / str(seed)))))
        for seed in (1, 2)
    )
    assert first != second


def test_a_checkpoint_of_another_spec_is_refused(tmp_path):
    list(run_experiment(spec_of(), environment(tmp_path)))
    with pytest.raises(CheckpointInvalid, match="another spec"):
        list(run_experiment(spec_of(seed=1), environment(tmp_path, resume=True)))


@pytest.mark.parametrize("may_halve", [True, False])
def test_a_checkpoint_of_fewer_micro_batches_is_taken_up_where_the_spec_allows(tmp_path, may_halve):
    def with_parts(parts: int, epochs: int):
        training = {"halve_on_out_of_memory": may_halve, "accumulation": parts, "epochs": epochs}
        return spec_of(training=training)

    def steps(told):
        return [step for e in told if isinstance(e, Metrics) for step in e.steps]

    first = list(run_experiment(with_parts(1, 2), environment(tmp_path)))
    again = run_experiment(with_parts(2, 2), environment(tmp_path, resume=True))
    if not may_halve:
        with pytest.raises(CheckpointInvalid, match="another spec"):
            list(again)
        return
    told = list(again)
    assert next(e for e in told if isinstance(e, Started)).facts["accumulation"] == 2
    assert isinstance(told[-1], Finished)
    assert len(steps(told)) < len(steps(first))


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tmp_path):
    spec = spec_of(
        training={"epochs": 3, "batch_size": 64, "learning_rate": 100, "ema_decay": None}
    )
    trainer = Trainer(spec, load(spec.data, tmp_path, seed=1), environment(tmp_path))
    with torch.no_grad():
        trainer.model.head.linear.weight.fill_(math.inf)
    with pytest.raises(ExperimentError, match=r"the loss is nan; lower training\.learning_rate"):
        trainer.update(torch.arange(8))


def test_defect_8_an_attack_computes_no_weight_gradient_and_counts_no_statistics(tmp_path):
    spec = spec_of(method={"warmup_epochs": 0, "attack": {"steps": 2}})
    trainer = Trainer(spec, load(spec.data, tmp_path, seed=1), environment(tmp_path))
    x, y = to_unit(trainer.train.x[:16]), trainer.train.y[:16]
    before = checkpoint.weights_sha256(trainer.model.state_dict())
    trainer.model.train()
    with evaluating(trainer.model), frozen(trainer.model):
        perturbation(spec.method, epoch=0, progress=0.0)(
            trainer.model, x, y, generator=trainer.streams.attack
        )
    assert all(p.grad is None for p in trainer.model.parameters())
    assert all(p.requires_grad for p in trainer.model.parameters())
    assert checkpoint.weights_sha256(trainer.model.state_dict()) == before
    assert trainer.model.training


def test_alg_1_warm_up_attacks_at_the_high_radius_alone():
    method = spec_of(method={"warmup_epochs": 2}).method
    for epoch in (0, 1):
        warm = perturbation(method, epoch=epoch, progress=0.0)
        assert isinstance(warm, Uniform)
        assert warm.epsilon == float(method.epsilon_high)
    assert not isinstance(perturbation(method, epoch=2, progress=0.5), Uniform)


@pytest.mark.parametrize("read_at", ["image", "start"])
def test_eq_8_every_pixel_stays_inside_its_own_radius(tmp_path, read_at):
    spec = spec_of(
        method={"warmup_epochs": 0, "epsilon_low": "10/255", "cam": {"read_at": read_at}}
    )
    trainer = Trainer(spec, load(spec.data, tmp_path, seed=1), environment(tmp_path))
    for batch in torch.arange(96).split(32):
        trainer.update(batch)
    x, y = to_unit(trainer.train.x[:32]), trainer.train.y[:32]
    method, radii = perturbation(spec.method, epoch=1, progress=0.4), []
    original = Budget.__call__

    def keeping(self, readout, *, generator):
        radii.append(original(self, readout, generator=generator))
        return radii[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "__call__", keeping)
        with evaluating(trainer.model), frozen(trainer.model):
            x_adv = method(trainer.model, x, y, generator=trainer.streams.attack).x
    ((epsilon, _),) = radii
    assert ((x_adv - x).abs() <= epsilon + rounding(4, scale=2)).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert epsilon.min() < 0.1 < epsilon.max()


def test_defect_11_the_cosine_reaches_zero_over_the_whole_run_warm_up_included(tmp_path):
    told = list(run_experiment(spec_of(), environment(tmp_path)))
    rates = points(told)["train/learning_rate"]
    assert rates[0] == pytest.approx(0.1)
    values = [rates[step] for step in sorted(rates)]
    assert values == sorted(values, reverse=True)
    assert cosine(0.1)(1.0) == pytest.approx(0.0, abs=1e-12)
    assert constant(0.1)(0.7) == 0.1


def test_defect_13_the_best_weights_are_chosen_on_images_held_out_of_training(tmp_path):
    spec = spec_of()
    split = load(spec.data, tmp_path, seed=spec.seed)
    train, held = set(split.train.ids.tolist()), set(split.validation.ids.tolist())
    assert not train & held
    assert len(held) == 20
    told = list(run_experiment(spec, environment(tmp_path)))
    series = points(told)
    robust = [*series["val/robust_accuracy"].values(), *series["val/ema/robust_accuracy"].values()]
    _, metadata = checkpoint.load(tmp_path / BEST)
    assert metadata["best"]["robust_accuracy"] == max(robust)


def test_ties_go_to_the_earlier_and_standard_training_is_chosen_by_clean_accuracy():
    first = Best(1, averaged=False, accuracy=0.9, robust_accuracy=0.0)
    same = Best(2, averaged=True, accuracy=0.9, robust_accuracy=0.0)
    clean = Best(3, averaged=False, accuracy=0.95, robust_accuracy=0.0)
    assert first.beats(None, clean_only=False)
    assert not same.beats(first, clean_only=True)
    assert clean.beats(first, clean_only=True)


def test_without_held_out_images_the_last_weights_are_judged(tmp_path):
    data = {**TINY["data"], "validation_fraction": 0.0}
    told = list(run_experiment(spec_of(data=data), environment(tmp_path)))
    (found,) = [e.evaluation for e in told if isinstance(e, Evaluated)]
    assert found.averaged is False
    best, last = (checkpoint.load(tmp_path / name)[0] for name in (BEST, LAST))
    assert checkpoint.weights_sha256(checkpoint.under(best, "model")) == found.model_sha256
    assert checkpoint.weights_sha256(checkpoint.under(last, "model")) == found.model_sha256


class TestAverage:
    def test_its_decay_grows_from_a_tenth(self):
        assert decay_at(0, 0.999) == pytest.approx(0.1)
        assert decay_at(10**6, 0.999) == 0.999

    def test_it_follows_weights_and_statistics(self):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        average = Average(model, 0.999)
        with torch.no_grad():
            model[0].weight.fill_(1.0)
            model[1].running_mean.fill_(1.0)
            model[1].num_batches_tracked += 3
        before = average.model[0].weight.clone()
        average.update(model, 0)
        torch.testing.assert_close(average.model[0].weight, before + 0.9 * (1 - before))
        assert torch.allclose(average.model[1].running_mean, torch.tensor(0.9))
        assert average.model[1].num_batches_tracked == 3


class TestRandomness:
    def test_streams_differ_by_name_and_return_to_a_state(self):
        streams = Streams.of(7)
        state = streams.state()
        drawn = [torch.rand(3, generator=g) for g in (streams.augment, streams.attack)]
        assert not torch.equal(*drawn)
        streams.restore(state)
        assert torch.equal(torch.rand(3, generator=streams.augment), drawn[0])

    def test_the_order_is_a_function_of_seed_and_epoch(self):
        assert torch.equal(epoch_order(50, seed=1, epoch=2), epoch_order(50, seed=1, epoch=2))
        assert not torch.equal(epoch_order(50, seed=1, epoch=2), epoch_order(50, seed=1, epoch=3))
        assert sorted(epoch_order(50, seed=1, epoch=2).tolist()) == list(range(50))

    def test_names_do_not_run_together(self):
        assert derive(1, "a", "b") != derive(1, "ab")
        assert derive(1, 2) != derive(12)


class TestCheckpointFiles:
    def test_what_is_saved_comes_back(self, tmp_path):
        tensors = {"a": torch.arange(4.0), "b": torch.ones(2, 3, dtype=torch.uint8)}
        saved = checkpoint.save(tmp_path / "x/y.safetensors", tensors, {"step": 3})
        read, metadata = checkpoint.load(saved.path)
        assert metadata == {"step": 3}
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)

    def test_a_full_disk_leaves_the_earlier_file(self, tmp_path, monkeypatch):
        path = tmp_path / "c.safetensors"
        checkpoint.save(path, {"a": torch.zeros(3)}, {"step": 1})

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "no space left")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(DiskFull, match=r"no space to write c\.safetensors"):
            checkpoint.save(path, {"a": torch.ones(3)}, {"step": 2})
        monkeypatch.undo()
        assert checkpoint.load(path)[1] == {"step": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]

    def test_other_trouble_keeps_its_name(self, tmp_path, monkeypatch):
        def broken(_descriptor: int) -> None:
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr("os.fsync", broken)
        with pytest.raises(OSError, match="input/output"):
            checkpoint.write_file(tmp_path / "x", b"1")

    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
    def test_what_is_no_checkpoint_is_refused(self, tmp_path, content):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointInvalid, match=r"x\.safetensors"):
            checkpoint.load(path)

    def test_a_strangers_safetensors_is_refused(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
        with pytest.raises(CheckpointInvalid, match="not written by this lab"):
            checkpoint.load(tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work = tmp_path_factory.mktemp("trained")
    return work, list(run_experiment(spec_of(), environment(work)))


class TestOfAFinishedRun:
    def test_an_evaluation_elsewhere_finds_the_same(self, trained, tmp_path):
        work, told = trained
        spec = expand({"kind": "evaluate", "source": {"run": "0" * 18}}, source=spec_of())
        again = list(run_experiment(spec, environment(tmp_path, source_checkpoint=work / BEST)))
        first, second = (
            next(e.evaluation for e in events if isinstance(e, Evaluated))
            for events in (told, again)
        )
        assert first.model_sha256 == second.model_sha256
        assert [r.outcomes for r in first.results] == [r.outcomes for r in second.results]

    def test_a_batch_size_changes_no_outcome(self, trained, tmp_path):
        work, told = trained
        body = {"kind": "evaluate", "source": {"run": "0" * 18}, "evaluation": {"batch_size": 7}}
        spec = expand(body, source=spec_of())
        again = list(run_experiment(spec, environment(tmp_path, source_checkpoint=work / BEST)))
        first, second = (
            next(e.evaluation for e in events if isinstance(e, Evaluated))
            for events in (told, again)
        )
        assert [r.outcomes for r in first.results] == [r.outcomes for r in second.results]

    def test_a_picture_of_it(self, trained, tmp_path):
        work, _ = trained
        body = {"kind": "visualise", "source": {"run": "0" * 18}, "images": 2}
        spec = expand(body, source=spec_of())
        told = list(run_experiment(spec, environment(tmp_path, source_checkpoint=work / LAST)))
        assert told[-1].summary == {"images": 2}

    def test_weights_of_another_network_are_refused(self, trained, tmp_path):
        work, _ = trained
        cifar = expand({"preset": "part", "data": {"dataset": "digits", "test_limit": 10}})
        spec = expand({"kind": "visualise", "source": {"run": "0" * 18}}, source=cifar)
        wrong = tmp_path / "wrong.safetensors"
        tensors, metadata = checkpoint.load(work / BEST)
        tensors["model/head.linear.weight"] = torch.zeros(3, 3)
        checkpoint.save(wrong, tensors, metadata)
        with pytest.raises(CheckpointInvalid, match="another network"):
            list(run_experiment(spec, environment(tmp_path, source_checkpoint=wrong)))

    def test_without_a_checkpoint_there_is_nothing_to_judge(self, tmp_path):
        spec = expand({"kind": "evaluate", "source": {"run": "0" * 18}}, source=spec_of())
        with pytest.raises(CheckpointInvalid, match="there are no weights of run"):
            list(run_experiment(spec, environment(tmp_path)))


class TestInATerminal:
    def test_it_prints_a_table_and_leaves_everything_in_the_folder(self, tmp_path, capsys):
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps(TINY))
        out = tmp_path / "out"
        command = [sys.executable, "-m", "partcore.train", "--threads", "1", "--spec", str(spec)]
        done = subprocess.run(
            [*command, "--out", str(out)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verdict: incomplete" in done.stdout
        assert "pgd-8" in done.stdout
        assert "\x1b" not in done.stdout
        assert json.loads((out / "summary.json").read_text())["verdict"] == "incomplete"
        assert main([*command[3:], "--out", str(out), "--resume"]) == 0
        assert "resumed at step 9 of 9" in capsys.readouterr().out

    def test_a_wrong_spec_and_missing_data_are_told_plainly(self, tmp_path, capsys):
        spec = tmp_path / "spec.json"
        command = ["--threads", "1", "--spec", str(spec), "--out", str(tmp_path)]
        spec.write_text(json.dumps({**TINY, "training": {"epochs": 0}}))
        assert main(command) == 2
        assert "/training/epochs" in capsys.readouterr().out
        spec.write_text(json.dumps({"preset": "part", "data": {"dataset": "cifar10"}}))
        assert main([*command, "--data-root", str(tmp_path)]) == 1
        assert "partcore.data download cifar10" in capsys.readouterr().out


def test_missing_data_says_how_to_get_it(tmp_path):
    spec = expand({"preset": "part", "data": {"dataset": "cifar100"}})
    with pytest.raises(DataMissing, match=r"partcore\.data download cifar100"):
        list(run_experiment(spec, environment(tmp_path)))


# -- options of training ----------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "kept-maps": {"method": {"cam": {"refresh": {"kind": "adaptive", "overlap": 0.3}}}},
    "moving-scores": {"method": {"cam": {"fidelity_floor": 1.0}}},
    "learned": {
        "method": {"cam": {"combine": "learned"}},
        "training": {"batch_size": 12},
    },
    "stacked": {
        "method": {"cam": {"combine": "stacked"}},
        "training": {"batch_size": 12, "accumulation": 2},
    },
    "half": {"training": {"attack_precision": "fp16", "update_precision": "fp16"}},
    "narrow-parts": {
        "training": {"attack_precision": "bf16", "update_precision": "bf16", "accumulation": 3}
    },
}


def optioned(name: str, **over: Any):
    body: dict[str, Any] = {
        "preset": "part++",
        "data": {"dataset": "digits", "train_limit": 140, "test_limit": 24},
        "evaluation": {"attacks": [{"kind": "fgsm"}]},
        **over,
    }
    method = {"attack": {"steps": 2}, "warmup_epochs": 1, **OPTIONS[name].get("method", {})}
    training = {"epochs": 4, "batch_size": 48, **OPTIONS[name].get("training", {})}
    insists = {"emulate_precision": True}  # on a CPU without bf16 too
    return expand({**body, "method": method, "training": training, "resources": insists})


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_with_options_cut_anywhere_resumes_to_the_same_bits(tmp_path, name):
    spec = optioned(name)
    whole = list(run_experiment(spec, environment(tmp_path / "whole")))
    stopped = 0
    for event in run_experiment(spec, environment(tmp_path / "cut")):
        stopped += isinstance(event, CheckpointSaved) and event.role == "last"
        if stopped == 2:
            break
    resumed = list(run_experiment(spec, environment(tmp_path / "cut", resume=True)))
    assert final_sha256(resumed) == final_sha256(whole)
    told = points(whole)
    if name == "kept-maps":
        assert {"cam/age_steps", "cam/overlap", "cam/refresh_epochs"} <= set(told)
        assert min(told["cam/recomputed"].values()) == 0.0
    if name in ("learned", "stacked"):
        shares = [told[f"cam/share/{cam}"] for cam in spec.method.cam.members]
        assert all(sum(s[step] for s in shares) == pytest.approx(1) for step in shares[0])
        assert len({s[max(s)] for s in shares}) == 3, "the members still weigh alike"
    if name == "moving-scores":
        moves = [e.message for e in whole if isinstance(e, Log) and "scores move" in e.message]
        assert [m.partition("scores move ")[2] for m in moves] == [
            "from feature-space to mean",
            "from mean to clusters of 8",
            "from clusters of 8 to clusters of 16",
            "from clusters of 16 to exact",
        ][: len(moves)]
        assert len(moves) >= 3


def test_a_floor_that_holds_moves_nothing(tmp_path):
    spec = spec_of(method={"warmup_epochs": 0, "cam": {"fidelity_floor": 0.0}})
    told = list(run_experiment(spec, environment(tmp_path)))
    assert all(0 < value <= 1 for value in points(told)["cam/fidelity"].values())
    assert not [e for e in told if isinstance(e, Log) and "scores move" in e.message]


def test_accumulation_attacks_the_very_images_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("partcore.training.to_unit", lambda x: to_unit(x).double())
    images = []
    for parts in (1, 4):
        spec = spec_of(
            method={"warmup_epochs": 0, "control": "random"},
            training={"accumulation": parts, "fold_batch_norm": False},
        )
        split = load(spec.data, tmp_path, seed=1)
        trainer = in_float64(Trainer(spec, split, environment(tmp_path)))
        trainer.perturbed(torch.arange(20))
        images.append(trainer.perturbed(torch.arange(30))[0].x_adv)
    torch.testing.assert_close(images[0], images[1], **EQUAL)


def test_early_stop_ends_training_when_the_best_weights_are_old(tmp_path, monkeypatch):
    # no later weights are better than the first epoch's
    monkeypatch.setattr("partcore.training.robustness", lambda *_, **__: Robustness(0.5, 0.5, 0.5))
    spec = spec_of(training={"epochs": 9, "early_stop": 2})
    told = list(run_experiment(spec, environment(tmp_path)))
    assert "stopped early: the best weights are of epoch 1" in {
        e.message for e in told if isinstance(e, Log)
    }
    assert max(e.epoch for e in told if isinstance(e, Progress) and e.phase == "train") == 3
    again = list(run_experiment(spec, environment(tmp_path, resume=True)))
    assert not [e for e in again if isinstance(e, Progress) and e.phase == "train"]
    assert final_sha256(again) == final_sha256(told)


def test_catastrophic_overfitting_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("partcore.training.robustness", lambda *_, **__: Robustness(0.9, 0.8, 0.1))
    told = list(run_experiment(spec_of(), environment(tmp_path)))
    warned = [e.message for e in told if isinstance(e, Log) and "catastrophic" in e.message]
    assert warned
    assert "FGSM leaves 80.0 %, PGD 10.0 %" in warned[0]


def test_a_compiler_that_is_refused_is_told_and_the_run_goes_on(tmp_path):
    spec = spec_of(training={"epochs": 1, "compile": "cuda-graphs"})
    told = list(run_experiment(spec, environment(tmp_path)))
    (message,) = [e.message for e in told if isinstance(e, Log) and "compile" in e.message]
    assert message.endswith("CUDA graphs need a GPU, and this is a cpu")
    assert isinstance(told[-1], Finished)
