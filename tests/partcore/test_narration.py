"""What a run says of itself: a line an epoch, an attack and a file, nothing twice."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from domain.events import ArtifactSaved, CheckpointSaved, Log, Metrics, Progress
from domain.presets import expand
from domain.results import AuditCheck, AuditReport, CorruptionResult, wilson_interval
from domain.spans import span
from partcore import narration
from partcore.environment import Environment, configure
from partcore.experiment import run_experiment
from partcore.train import main
from partcore.validation import Best, Robustness
from tests.api.lab import evaluation

TINY: dict[str, Any] = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 200, "test_limit": 48},
    "training": {"epochs": 3, "batch_size": 64},
    "method": {"attack": {"steps": 2}, "warmup_epochs": 1},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    configure(Environment(work=Path(), data_root=Path(), threads=1))
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)  # noqa: FBT003


def environment(work: Path, **over: Any) -> Environment:
    ticks = itertools.count()
    return Environment(work=work, data_root=work, clock=lambda: float(next(ticks)), **over)


def lines(events: list[Any], *, starting: str = "") -> list[str]:
    return [e.message for e in events if isinstance(e, Log) and e.message.startswith(starting)]


def without_times(line: str) -> list[str]:
    return [part for part in line.split(", ") if not part.endswith((" s", "min", "left"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything an undisturbed run says."""
    return list(run_experiment(expand(TINY), environment(tmp_path_factory.mktemp("whole"))))


def test_a_log_tells_the_story_of_a_run(whole):
    first, second, *_ = lines(whole)
    assert first == (
        "training small-cnn with part++ (part) for 3 epochs; digits: 180 images to train on, "
        "20 held out, 48 to test on, 10 classes"
    )
    assert second.startswith("seed 42, on cpu (")
    epochs = lines(whole, starting="epoch ")
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    (ended,) = lines(whole, starting="training ended with epoch 3: checkpoints/best.safetensors")
    assert "checkpoints/last.safetensors of epoch 3" in ended
    for attack in ("clean: ", "fgsm: ", "worst case: "):
        assert len(lines(whole, starting=attack)) == 1, attack
    assert lines(whole, starting="audit: incomplete")
    files = {e.name for e in whole if isinstance(e, ArtifactSaved)}
    assert {line.split()[1].rstrip(",") for line in lines(whole, starting="saved ")} == files
    few = [e for e in whole if isinstance(e, Log) and "20 held-out images" in e.message]
    assert [e.level for e in few] == ["warning"]


def test_an_epochs_line_has_the_numbers_that_were_recorded(whole):
    steps_an_epoch = 3
    losses = [e.loss for e in whole if isinstance(e, Progress) and e.phase == "train"]
    series: dict[str, list[float]] = {}
    for event in whole:
        if isinstance(event, Metrics):
            for name, values in event.values.items():
                series.setdefault(name, []).extend(values)
    for epoch, line in enumerate(lines(whole, starting="epoch ")):
        loss = losses[steps_an_epoch * (epoch + 1) - 1]
        clean, robust = series["val/accuracy"][epoch], series["val/robust_accuracy"][epoch]
        said = f"loss {loss:.4g}, validation clean {100 * clean:.1f} %, PGD-10 {100 * robust:.1f} %"
        assert said in line
        assert ("of training left" in line) == (epoch < 2)


def test_progress_carries_what_a_follower_wants_to_see(whole):
    training = [e for e in whole if isinstance(e, Progress) and e.phase == "train"]
    assert training[0].robust_accuracy is None, "nothing was validated yet"
    assert all(e.loss is not None for e in training)
    validated = [e for e in whole if isinstance(e, Progress) and e.phase == "validate"]
    assert [e.done for e in validated] == [1, 2, 3]
    assert all(e.robust_accuracy is not None and e.loss is not None for e in validated)
    recorded = [
        value
        for e in whole
        if isinstance(e, Metrics)
        for name in ("val/robust_accuracy", "val/ema/robust_accuracy")
        for value in e.values.get(name, ())
    ]
    assert training[-1].robust_accuracy in recorded


def test_a_resumed_run_says_where_and_then_the_same(tmp_path, whole):
    """Cut in the middle of the second epoch: its loss is still the mean of the whole epoch."""
    steps = itertools.count()
    asked = environment(tmp_path, checkpoint_requested=lambda: next(steps) == 4)
    events = run_experiment(expand(TINY), asked)
    before = []
    for event in events:
        before.append(event)
        if isinstance(event, Log) and "asked for" in event.message:
            break
    events.close()
    after = list(run_experiment(expand(TINY), environment(tmp_path, resume=True)))
    assert lines(before)[-1] == "checkpoint asked for: saved step 5"
    assert lines(after, starting="resumed") == ["resumed at step 5 of 9, in epoch 2/3"]
    said = lines(before, starting="epoch ") + lines(after, starting="epoch ")
    assert [without_times(line) for line in said] == [
        without_times(line) for line in lines(whole, starting="epoch ")
    ]
    last = [e.sha256 for e in after if isinstance(e, ArtifactSaved) and e.kind == "weights"]
    assert last == [e.sha256 for e in whole if isinstance(e, ArtifactSaved) and e.kind == "weights"]


def test_the_command_prints_the_same_lines(tmp_path, capsys):
    body = {**TINY, "training": {"epochs": 2, "batch_size": 64, "keep_every": 1}}
    (tmp_path / "spec.json").write_text(json.dumps(body))
    out = tmp_path / "out"
    assert main(["--spec", str(tmp_path / "spec.json"), "--out", str(out), "--threads", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[:10] for line in printed if line.startswith("epoch ")] == [
        "epoch 1/2:",
        "epoch 2/2:",
    ]
    assert "kept checkpoints/epoch-0001.safetensors" in printed
    assert (out / "checkpoints/epoch-0001.safetensors").read_bytes(), "what the log names is there"
    assert any(line.startswith("warning: ") for line in printed)
    assert printed[-1] == f"finished; files in {out}"


def test_lines_are_few_however_long_a_run_trains(tmp_path):
    """One an epoch: what is validated, saved or recorded more often adds none."""
    counts = []
    for epochs in (1, 3):
        training = {"epochs": epochs, "batch_size": 64, "checkpoint_minutes": 1e-9}
        spec = expand({**TINY, "training": training})
        events = list(run_experiment(spec, environment(tmp_path / str(epochs))))
        assert sum(isinstance(e, CheckpointSaved) for e in events) > epochs
        counts.append(len(lines(events)))
    assert counts[1] - counts[0] == 2


def record(loss: float, constant: float = 0.0) -> dict[str, float]:
    return {"train/loss": loss, "cam/constant_fraction": constant}


def test_constant_maps_are_warned_of_once():
    diary = narration.Diary(lambda: 0.0)
    told = []
    for epoch in (1, 2, 3):
        for step in range(2):
            diary.note(record(1.0, constant=0.2 if epoch == 1 else 0.9), step)
        told.append([line.level for line in diary.warnings(epoch)])
        diary.close(epoch=epoch, epochs=3, step=2 * epoch, steps=6, best=None)
    assert told == [[], ["warning"], []]


def test_time_left_is_judged_by_this_attempt_alone():
    now = [100.0]
    diary = narration.Diary(lambda: now[0])
    for step in range(60, 70):
        diary.note(record(2.0), step)
    now[0] += 20
    diary.validated = ((False, Robustness(0.5, 0.4, 0.3)),)
    best = Best(3, averaged=False, accuracy=0.6, robust_accuracy=0.35)
    line = diary.close(epoch=7, epochs=10, step=70, steps=100, best=best).message
    assert line == (
        "epoch 7/10: loss 2, validation clean 50.0 %, PGD-10 30.0 %, best so far epoch 3, "
        "20.0 s, about 1 min of training left"
    )
    assert diary.loss is None


def test_every_rule_that_fails_is_a_warning():
    checks = [
        AuditCheck(name=name, severity="broken", outcome=outcome, detail="7 > 3", advice="look")
        for name, outcome in (("a", "holds"), ("b", "fails"), ("c", "fails"))
    ]
    report = AuditReport(verdict="broken", checks=tuple(checks))
    told = list(narration.judged(evaluation().worst_case, report, ()))
    assert [line.level for line in told] == ["info", "warning", "warning", "warning"]
    assert told[2].message == "audit: b fails (broken): 7 > 3; look"


def test_corruptions_are_one_line():
    results = [
        CorruptionResult(
            label="fog@1", kind="fog", severity=1, n=10, correct=hits, accuracy=hits / 10,
            interval=wilson_interval(hits, 10), outcomes="",
        )
        for hits in (4, 8)
    ]  # fmt: skip
    assert [line.message for line in narration.corrupted(results)] == [
        "corruptions: 60.0 % on average over 2"
    ]
    assert list(narration.corrupted([])) == []


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min"), (90, "1 min 30 s"), (3599.7, "1 h 00 min"),
     (7260, "2 h 01 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_a_span_has_the_units_that_matter(seconds, written):
    assert span(seconds) == written
