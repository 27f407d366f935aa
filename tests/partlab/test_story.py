"""What the demo says of its runs; the demo itself is an acceptance test."""

import io
import json
import threading

import pytest
from rich.console import Console

from domain.presets import expand
from domain.run_state import RunState
from partlab import demo
from partlab.client import Client
from store import fleet, queue
from store.engine import database_now, writing
from store.rows import SlotSpec
from store.runs import request_cancel
from tests.api.lab import LEASE, LiveLab, attack, evaluation, live_lab


@pytest.fixture(scope="module")
def demo_lab(tmp_path_factory):
    """A lab in which nobody else's runs are."""
    with live_lab("sqlite", tmp_path_factory.mktemp("lab")) as made:
        yield made


def found(correct: int):
    return evaluation().model_copy(update={"worst_case": attack("worst-case", correct)})


def serve(
    lab: LiveLab,
    folder,
    worst: dict[str, int],
    submitted: threading.Event,
    *,
    failing: str | None = None,
) -> None:
    """Do as a worker would, once all three runs are submitted, until they are over."""
    assert submitted.wait(30)
    for _ in range(3):
        claim = None
        while claim is None:
            threading.Event().wait(0.02)
            with writing(lab.engine) as c:
                now = database_now(c)
                slots = [SlotSpec("cpu", i, "CPU") for i in range(100)]
                fleet.register_worker(c, name="host", host="h", pid=1, offered=slots, now=now)
                claim = queue.claim(c, worker="host", now=now, lease=LEASE)
        run = claim.run
        lab.advance(run, phase="train", done=1, total=2, unit="step", epoch=1, epochs=1)
        if run.preset == failing:
            failure = {"failure_class": "out-of-memory", "message": "too small"}
            lab.finish(run, RunState.FAILED, failure=failure)
            continue
        lab.evaluate(run, found(worst[str(run.preset)]))
        lab.keep_file(run, demo.PICTURE, f"of {run.preset}".encode(), folder, kind="figure")
        lab.finish(run)


def tell(lab: LiveLab, folder, worst, **how):
    out = Console(file=io.StringIO(), width=200)
    submitted = threading.Event()
    thread = threading.Thread(target=serve, args=(lab, folder, worst, submitted), kwargs=how)
    with Client(lab.url, lab.tokens["root"]) as client:
        thread.start()
        outcomes = demo.run_all(client, ["training.epochs=1"], out, submitted.set)
        thread.join(timeout=30)
        out.print(demo.table(out, outcomes))
        files = demo.save(client, outcomes, folder)
    return outcomes, files, out.file.getvalue()


def test_only_the_method_differs_between_the_runs():
    specs = [expand(body) for body in demo.submissions(["seed=7"]).values()]
    assert [s.preset for s in specs] == ["part++", "pgd-at", "standard"]
    rest = {
        json.dumps(s.model_dump(mode="json", exclude={"method", "preset", "name"})) for s in specs
    }
    assert len(rest) == 1
    assert "pgd-20" in [a.label for a in specs[0].evaluation.attacks]


def test_the_demo_compares_saves_and_is_content(demo_lab, tmp_path):
    worst = {"part++": 220, "pgd-at": 200, "standard": 3}
    outcomes, files, shown = tell(demo_lab, tmp_path, worst)
    assert demo.shortcomings(outcomes) == []
    assert [f.name for f in files] == ["budget.png", "results.md", "results.json"]
    assert files[0].read_bytes() == b"of part++"
    rows = files[1].read_text().splitlines()
    assert rows[2] == (
        "| part++ | 96.4 % [93.9 - 97.9 %] | 62.5 % [57.4 - 67.3 %] | 61.1 % [56.0 - 66.0 %] "
        "| 360 | sound |"
    )
    saved = json.loads(files[2].read_text())
    assert [one["method"] for one in saved] == ["part++", "pgd-at", "standard"]
    assert saved[2]["evaluation"]["worst_case"]["correct"] == 3
    for words in ("PGD-20", "worst case", "verdict", "61.1 %", "0.8 %", "standard"):
        assert words in shown


def test_a_demo_that_was_interrupted_is_cleared_away(demo_lab, tmp_path):
    with Client(demo_lab.url, demo_lab.tokens["root"]) as client:
        left = client.submit(demo.submissions([])["part++"])
        tell(demo_lab, tmp_path, dict.fromkeys(demo.PRESETS, 5))
        assert client.get(left.id).state == RunState.CANCELLED


def test_a_run_that_ends_while_the_demo_clears_up_is_no_error(demo_lab, tmp_path, monkeypatch):
    cancel = Client.cancel

    def ends_first(client, run_id):
        with writing(demo_lab.engine) as c:
            request_cancel(c, run_id, now=database_now(c), actor="somebody else")
        return cancel(client, run_id)

    monkeypatch.setattr(Client, "cancel", ends_first)
    with Client(demo_lab.url, demo_lab.tokens["root"]) as client:
        client.submit(demo.submissions([])["part++"])
        outcomes, _, _ = tell(demo_lab, tmp_path, {"part++": 90, "pgd-at": 200, "standard": 3})
    assert demo.shortcomings(outcomes) == []


def test_no_gain_over_the_control_is_a_shortcoming(demo_lab, tmp_path):
    outcomes, _, _ = tell(demo_lab, tmp_path, {"part++": 90, "pgd-at": 200, "standard": 90})
    (told,) = demo.shortcomings(outcomes)
    assert told == "part++ is no more robust than standard training: 25.0 % against 25.0 %"


def test_a_failed_run_is_a_shortcoming_and_has_a_row(demo_lab, tmp_path):
    worst = dict.fromkeys(demo.PRESETS, 5)
    outcomes, files, shown = tell(demo_lab, tmp_path, worst, failing="part++")
    assert demo.shortcomings(outcomes) == ["part++ failed: out-of-memory: too small"]
    assert [f.name for f in files] == ["results.md", "results.json"]
    assert "| part++ | - | - | - | - | failed |" in files[0].read_text()
    assert outcomes[0].worst_case == 0
    assert "failed" in shown
