"""A run says on what it was made; what this CPU only emulates is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import paired
from benchmarks.progress import runnable
from domain.card import card
from domain.described import Described
from domain.errors import EmulatedPrecision
from domain.events import CheckpointSaved, Log, Started
from domain.presets import expand
from domain.spec import ClusteredScoring, FeatureSpaceScoring
from partcore import checkpoint, score_ladder
from partcore.environment import Environment
from partcore.experiment import run_experiment
from partcore.machine import capability, emulates, machine, moved
from partcore.standing import FILE
from partcore.training import BEST, LAST
from tests.api.lab import evaluation
from tests.cpus import FEW, run

SPEC: dict[str, Any] = {
    "preset": "pgd-at",
    "data": {"dataset": "digits", "train_limit": 60, "test_limit": 20},
    "method": {"attack": {"steps": 1}},
    "training": {"epochs": 2, "batch_size": 30},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}
CAP = "AVX" if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2" else "AVX2"
OTHER_CPU = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": CAP}


def begun(work: Path) -> Environment:
    """Train one epoch of two in ``work``."""
    environment = Environment(work=work, data_root=work, threads=1)
    for event in run_experiment(expand(SPEC), environment):
        if isinstance(event, CheckpointSaved) and event.role == "last":
            break
    return environment


def resumed(work: Path, **over: Any) -> tuple[dict[str, Any], list[str]]:
    """Go on in ``work``; return the facts and the warnings about the machine."""
    environment = Environment(work=work, data_root=work, resume=True, **over)
    events = list(run_experiment(expand(SPEC), environment))
    (started,) = [event for event in events if isinstance(event, Started)]
    messages = [e.message for e in events if isinstance(e, Log) and e.level == "warning"]
    return dict(started.facts), [message for message in messages if "kind of machine" in message]


# -- on what a run was made -------------------------------------------------------------------


def test_the_same_run_elsewhere_says_so_in_the_terminal_the_record_and_on_the_card(tmp_path):
    work = tmp_path / "out"
    begun(work)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "partcore.train", "--spec", str(spec), "--out", str(work)]
    done = subprocess.run(
        [*command, "--threads", "1", "--resume"],
        env={**os.environ, **OTHER_CPU},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: resumed on another kind of machine" in done.stdout
    assert "may differ" in done.stdout
    facts = json.loads((work / "summary.json").read_text())["facts"]
    assert facts["cpu_capability"] == f"DEFAULT, oneDNN at most {CAP}"
    assert capability() in facts["begun_on"]
    trained = expand(SPEC)
    run_ = Described("0" * 18, "here and there", trained, "f" * 64, facts)
    text = " ".join(card(run_, run_, evaluation("sound")).split())
    assert "Resumed on another kind of machine than it began on" in text
    assert f"DEFAULT, oneDNN at most {CAP}" in text


def test_the_same_machine_says_nothing_and_another_is_remembered(tmp_path):
    begun(tmp_path)
    _, metadata = checkpoint.load(tmp_path / LAST)
    here = dict(machine(Environment(tmp_path, tmp_path)))
    assert metadata["made_on"] == [here]
    facts, messages = resumed(tmp_path)
    assert (facts["begun_on"], messages) == (None, [])
    facts, messages = resumed(tmp_path, threads=2)
    assert len(messages) == 1
    assert "1 thread," in facts["begun_on"]
    tensors, metadata = checkpoint.load(tmp_path / LAST)
    metadata["made_on"] = [{**here, "torch": "1.0"}, here]
    checkpoint.save(tmp_path / LAST, tensors, metadata)
    facts, messages = resumed(tmp_path)
    assert messages == [], "it did not move this time"
    assert "torch 1.0" in facts["begun_on"]
    assert checkpoint.load(tmp_path / BEST)[1]["made_on"] == [here]


@pytest.mark.parametrize("change", ["device_name", "cpu_capability", "threads", "torch"])
def test_whatever_decides_the_bits_makes_another_machine(change, tmp_path):
    here = machine(Environment(tmp_path, tmp_path))
    there = {**here, change: 7}
    assert moved([dict(here)], here) == [here]
    assert moved([there], here) == [there, here]


def test_an_evaluation_that_goes_on_elsewhere_says_so(tmp_path):
    work = tmp_path / "judging"
    source = begun(tmp_path / "source").work / LAST
    body = {"kind": "evaluate", "source": {"run": "0" * 18, "weights": "last"}}
    spec = expand(body, source=expand(SPEC))
    shared = {"work": work, "data_root": work, "source_checkpoint": source}
    stopping = Environment(**shared, checkpoint_requested=lambda: True)
    for event in run_experiment(spec, stopping):
        if isinstance(event, CheckpointSaved):
            break
    tensors, metadata = checkpoint.load(work / FILE)
    metadata["made_on"] = [{**metadata["made_on"][0], "cpu_capability": "NEON"}]
    checkpoint.save(work / FILE, tensors, metadata)
    events = list(run_experiment(spec, Environment(**shared, resume=True)))
    (started,) = [event for event in events if isinstance(event, Started)]
    assert "NEON" in str(started.facts["begun_on"])
    assert any("it ran on" in event.message for event in events if isinstance(event, Log))


# -- narrow number types ----------------------------------------------------------------------


@pytest.fixture
def without_bf16(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


NARROW = [
    ("training.update_precision", {"training": {"update_precision": "bf16"}}),
    ("training.update_precision", {"training": {"update_precision": "fp16"}}),
    ("training.attack_precision", {"training": {"attack_precision": "bf16"}}),
    (
        "method.cam.scores.precision",
        {"preset": "part++", "method": {"cam": {"scores": {"kind": "mean", "precision": "bf16"}}}},
    ),
]


def narrow(over: dict[str, Any]) -> dict[str, Any]:
    training = {**SPEC["training"], **over.get("training", {})}
    return {**SPEC, **over, "training": training}


@pytest.mark.usefixtures("without_bf16")
@pytest.mark.parametrize(("field", "over"), NARROW)
def test_what_a_cpu_only_emulates_is_refused_before_the_data_is_read(field, over, tmp_path):
    events = run_experiment(expand(narrow(over)), Environment(tmp_path, tmp_path))
    with pytest.raises(EmulatedPrecision, match=r"resources\.emulate_precision") as refused:
        list(events)
    assert (refused.value.field, refused.value.failure_class) == (field, "spec")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_bf16")
def test_a_picture_is_refused_too_and_whoever_insists_is_not(tmp_path):
    source = expand(narrow(NARROW[-1][1]))
    picture = expand({"kind": "visualise", "source": {"run": "0" * 18}}, source=source)
    with pytest.raises(EmulatedPrecision, match=r"cam\.scores\.precision"):
        list(run_experiment(picture, Environment(tmp_path, tmp_path)))
    insisting = {**narrow(NARROW[0][1]), "resources": {"emulate_precision": True}}
    events = run_experiment(expand(insisting), Environment(tmp_path, tmp_path))
    assert any(isinstance(event, Started) for event in events)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("ONEDNN_MAX_CPU_ISA", v) for v in ("SSE41", "AVX2", "AVX512_CORE")],
        *[("ATEN_CPU_CAPABILITY", v) for v in ("default", "avx2")],
    ],
)
def test_what_an_operator_switched_off_is_not_counted_on(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert emulates("bf16", "cpu")
    assert not emulates("bf16", "cuda:0")
    assert not emulates("fp32", "cpu")


def test_a_floor_moves_scores_to_bf16_only_where_it_is_no_burden():
    for is_narrow, precision in ((True, "bf16"), (False, "fp32")):
        scoring, met = score_ladder.better(FeatureSpaceScoring(), narrow=is_narrow), []
        while scoring is not None:
            met.append(scoring)
            scoring = score_ladder.better(scoring, narrow=is_narrow)
        assert [rung.kind for rung in met] == ["mean", "clusters", "clusters", "exact"]
        assert {r.precision for r in met if isinstance(r, ClusteredScoring)} == {precision}


# -- who waits is messages ------------------------------------------------------------------------


@pytest.mark.usefixtures("without_bf16")
def test_a_benchmark_skips_aloud_what_the_machine_cannot_do(capsys):
    assert runnable(["mean", "mean, in bf16"]) == ["mean"]
    messages = capsys.readouterr().err
    assert "only emulates bf16" in messages
    assert "mean, in bf16" in messages


def test_every_round_of_a_benchmark_is_told(capsys):
    paired.measure({"ours": lambda: None, "theirs": lambda: None}, rounds=2)
    messages = capsys.readouterr().err
    assert messages.count("round ") == 3
    assert messages.count("ours:") == messages.count("theirs:") == 3


# -- other CPUs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "AVX2")]
)
def test_maps_attacks_and_equations_hold_on_another_cpu(name, value):
    if os.environ.get("ATEN_CPU_CAPABILITY") or os.environ.get("ONEDNN_MAX_CPU_ISA"):
        pytest.skip("these are such an interpreter's tests")
    done = run(name, value, FEW)
    assert done.returncode == 0, done.stdout
