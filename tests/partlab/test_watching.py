import io

import pytest
from rich.console import Console
from rich.text import Text

from domain.results import CorruptionResult, wilson_interval
from partlab import run_lines, tables, watching
from partlab.answers import Run
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


def a_run(run_id: str, title: str) -> Run:
    fields = dict.fromkeys(Run.model_fields)
    fields |= {"id": run_id, "name": title, "kind": "train", "state": "running", "tags": (),
               "spec": {}, "submitted_at": "2026-01-01T00:00:00Z", "owner": "ada",
               "experiment": "default", "version": 1, "attempt": 1, "priority": 0, "seed": 1,
               "spec_sha256": ""}  # fmt: skip
    return Run.model_validate(fields)


A, B, C = (a_run(f"01kb7qz3h4m8x2v9a{end}", title) for end, title in zip(
    "abc", ("ablation-cam-gradcam-tau-4-seed-1", "ablation-cam-gradcam-tau-4-seed-2", "pgd-at"),
    strict=True,
))  # fmt: skip


def test_a_note_says_what_is_known():
    training = progress(
        3, epoch=2, epochs=5, images_per_second=1234.5, loss=1.23456, robust_accuracy=0.431
    )
    said = "epoch 2/5, loss 1.235, robust 43.1 %, 1,234 images/s, 1 min left"
    assert watching.note(training, 75) == said
    assert watching.note(progress(3, "evaluate", detail="pgd-20"), 7) == "pgd-20, 7 s left"
    assert watching.note(progress(100), 0.0) == ""


def test_a_pipe_gets_a_line_an_epoch_and_one_an_attack():
    clock, out = Clock(), pipe()
    with watching.Lines(out, clock=clock) as shown:
        shown.advance(A, {})
        for done in range(30):
            training = progress(done, epoch=1 + done // 10, epochs=3, loss=2.0)
            shown.advance(A, training | {"robust_accuracy": 0.4 if done > 9 else None})
            clock.now += 1
        for done in range(30):
            shown.advance(A, progress(done, "evaluate", detail=f"pgd-{20 * (1 + done // 15)}"))
        shown.settle(A, Text("over"))
        shown.settle(A, Text("over"))
        shown.say(Text("[b]as it is[/b]"))
    assert written(out).splitlines() == [
        f"{A.title}: train, epoch 1/3, loss 2",
        f"{A.title}: train, epoch 2/3, loss 2, robust 40.0 %, 2 min left",
        f"{A.title}: train, epoch 3/3, loss 2, robust 40.0 %, 1 min left",
        f"{A.title}: evaluate, pgd-20",
        f"{A.title}: evaluate, pgd-40",
        f"{A.title}: over",
        "[b]as it is[/b]",
    ]


def at_width(width: int, *, runs=(A, B, C)) -> list[str]:
    """What a window of that width shows of runs that train, are attacked and wait."""
    out = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    shown = watching.Bars(out)
    training = progress(
        37, epoch=12, epochs=300, images_per_second=12345.6, loss=1.2345, robust_accuracy=0.431
    )
    shown.advance(runs[0], training)
    shown.advance(runs[0], training | {"done": 38})
    shown.advance(runs[1], progress(5, "evaluate", detail="autoattack: apgd-ce"))
    shown.settle(runs[2], Text("queued, waits for a worker with CIFAR-10: none has it"))
    page = Console(file=io.StringIO(), width=width)
    page.print(shown.rendered())
    return written(page).splitlines()


@pytest.mark.parametrize("width", range(30, 240, 7))
def test_names_do_not_shrink_and_no_line_is_too_long(width):
    lines = at_width(width)
    assert max(map(len, lines)) <= width
    named = [line for line in lines if not line.startswith("  ")]
    least = min(run_lines.LEAST_NAME, len(C.title))
    assert [line.split()[0][-6:] for line in named] == ["seed-1", "seed-2", "pgd-at"]
    assert all(len(line.split()[0]) >= least for line in named)
    assert all("train" in line or "evaluate" in line or "queued" in line for line in named)


@pytest.mark.parametrize(("width", "lines"), [(40, 5), (65, 5), (80, 3), (120, 3), (200, 3)])
def test_loss_robust_accuracy_and_time_left_are_seen_at_any_width(width, lines):
    shown = at_width(width)
    assert len(shown) == lines
    about_the_first = " ".join(shown[: 1 if lines == 3 else 2])
    for words in ("loss 1.234", "robust 43.1 %", "left", "38 %"):
        assert words in about_the_first, words
    assert ("epoch 12/300" in about_the_first) == (width not in (40, 80))
    assert ("images/s" in about_the_first) == (width >= 200)
    assert "autoattack: apgd-ce" in " ".join(shown)


def test_runs_of_one_title_have_different_names():
    twin = a_run("01kb7qz3h4m8x2v9zz", A.title)
    names = [line.split()[1] for line in at_width(200, runs=(A, twin, C)) if "ablation" in line]
    assert names == [A.id[-6:], twin.id[-6:]]


def test_a_window_shows_lines_above_the_runs(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    out = window()
    shown = watching.display(out)
    assert isinstance(shown, watching.Bars)
    with shown:
        shown.advance(A, {})
        shown.advance(A, progress(50, epoch=2, epochs=3, images_per_second=500.0))
        shown.say(Text("a line above"))
        shown.settle(C, Text("queued"))
    text = written(out)
    for words in ("train", "50 %", "epoch 2/3", "500 images/s", "a line above", "queued"):
        assert words in text
    assert isinstance(watching.display(pipe()), watching.Lines)


def test_a_stream_without_line_drawing_gets_ascii():
    for line in at_width(200):
        drawn = run_lines.plain_ascii(Text(line)).plain
        assert drawn.isascii()
        assert len(drawn) == len(line)


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
            for _ in range(4):
                watching._show(client, client.get(run.id), next(news), shown)
    assert "worker stopped: queued" in written(out)


def test_why_a_run_waits_is_not_worth_an_error(lab):
    with Client(lab.url, lab.tokens["ada"]) as client:
        assert watching.why_waiting(client, "0" * 18) == "queued"
