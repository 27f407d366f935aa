import io

import pytest
from rich.console import Console
from rich.text import Text

from domain.results import CorruptionResult, wilson_interval
from partlab import tables, watching
from partlab.client import Client
from store import queue
from store.engine import database_now, writing
from tests.api.lab import evaluation


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def window() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=140, color_system="truecolor")


def pipe() -> Console:
    return Console(file=io.StringIO(), width=200, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def progress(done: int, phase: str = "train", **more) -> dict:
    return {"phase": phase, "done": done, "total": 100, "unit": "step", **more}


def test_time_left_counts_interruptions_in():
    clock = Clock()
    pace = watching.Pace(clock)
    assert pace.left(progress(10)) is None
    clock.now += 10
    assert pace.left(progress(20)) == 80
    clock.now += 10
    assert pace.left(progress(0, "validate")) is None
    clock.now += 10
    assert pace.left(progress(25)) == pytest.approx(75 * 30 / 15)


def test_a_note_says_what_is_known():
    known = progress(3, epoch=2, epochs=5, detail="pgd-20", images_per_second=1234.5)
    assert watching.note(known, 75) == "epoch 2/5, pgd-20, 1,234 images/s, 1 min 15 s left"
    assert watching.note(progress(100), 0.0) == ""


def test_a_pipe_gets_a_line_a_phase_and_then_one_now_and_then():
    clock, out = Clock(), pipe()
    with watching.Lines(out, clock=clock) as shown:
        shown.advance("a", {})
        for done in range(30):
            shown.advance("a", progress(done, epoch=1, epochs=2))
            shown.advance("a", progress(1, "validate"))
            clock.now += 1
        shown.settle("a", Text("over"))
        shown.settle("a", Text("over"))
        shown.say(Text("[b]as it is[/b]"))
    lines = written(out).splitlines()
    assert lines[:2] == ["a: train 0/100, epoch 1/2", "a: validate 1/100"]
    assert 5 <= sum("train" in line or "validate" in line for line in lines) <= 9
    assert lines[-2:] == ["a: over", "[b]as it is[/b]"]
    assert "left" in lines[2]


def test_a_window_gets_a_bar_with_phase_throughput_and_time_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    out = window()
    shown = watching.display(out)
    assert isinstance(shown, watching.Bars)
    with shown:
        shown.advance("part++", {})
        shown.advance("part++", progress(1, epoch=1, epochs=3, images_per_second=500.0))
        shown.advance("part++", progress(50, epoch=2, epochs=3, images_per_second=500.0))
        shown.say(Text("a line above"))
        shown.settle("pgd-at", Text("queued"))
    text = written(out)
    for words in ("part++", "train", "50/100", "epoch 2/3", "500 images/s", "left", "a line above"):
        assert words in text
    assert isinstance(watching.display(pipe()), watching.Lines)


def test_tables_in_a_window_are_ruled_and_coloured():
    out = window()
    out.print(tables.results(out, evaluation("broken", fails=True)))
    text = written(out)
    assert "─" in text
    assert "\x1b[1;31mbroken" in text


def test_corruptions_are_a_line_a_kind_and_their_mean():
    found = tuple(
        CorruptionResult(
            label=f"{kind}@{severity}",
            kind=kind,
            severity=severity,
            n=100,
            correct=correct,
            accuracy=correct / 100,
            interval=wilson_interval(correct, 100),
            outcomes="",
        )
        for kind, severity, correct in (("fog", 1, 90), ("fog", 5, 50), ("jpeg", 3, 80))
    )
    out = pipe()
    out.print(tables.results(out, evaluation().model_copy(update={"corruptions": found})))
    lines = [line.split() for line in written(out).splitlines()]
    assert lines[-3:] == [
        ["fog", "70.0", "%", "1,", "5"],
        ["jpeg", "80.0", "%", "3"],
        ["mean", "75.0", "%"],
    ]
    out = pipe()
    out.print(tables.results(out, evaluation()))
    assert "corruption" not in written(out)


def test_a_run_in_a_window_ends_with_its_state(lab, finished, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    out = window()
    with Client(lab.url, lab.tokens["ada"]) as client:
        run = client.get(finished.id)
        ended = watching.follow(client, run, out)
        answers = client.evaluations(run.id)
    assert ended == run
    assert "succeeded" in written(out)
    assert answers[0].record == evaluation("suspicious", fails=True)


def test_attempts_and_requeues_are_told(lab):
    run = lab.start(name="unlucky")
    with writing(lab.engine) as c:
        queue.hand_back(c, run.id, run.attempt, now=database_now(c), reason="worker stopped")
    out = pipe()
    with Client(lab.url, lab.tokens["ada"]) as client:
        news = client.follow(run.id)
        with watching.display(out) as shown:
            for _ in range(3):
                watching._show(client, client.get(run.id), next(news), shown)
    assert "worker stopped: queued" in written(out)


def test_why_a_run_waits_is_not_worth_an_error(lab):
    with Client(lab.url, lab.tokens["ada"]) as client:
        assert watching.why_waiting(client, "0" * 18) == "queued"
