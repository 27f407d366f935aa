"""One run after another through real children, on both databases where the database matters."""

import io
import os
import signal

import pytest

from domain.presets import RUN_SPEC, Uploaded, expand, named_sources
from domain.run_state import RunState
from store import (
    artifacts,
    checkpoints,
    evaluations,
    fleet,
    history,
    logs,
    metrics,
    running_time,
    runs,
    waits,
)
from store.blobs import Blobs
from store.engine import reading, writing
from tests import making_weights
from tests.store.databases import NOW
from tests.waiting import until
from tests.worker.lab import (
    TINY,
    at_step,
    ended,
    look,
    resumed,
    settings,
    submit,
    weights,
    working,
)
from worker import datasets


@pytest.fixture(scope="session")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("worker-state")


def child_pids() -> list[int]:
    """Process ids of this test process's training children."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as stream:  # noqa: PTH123
                command = stream.read()
            with open(f"/proc/{entry}/stat") as stream:  # noqa: PTH123
                parent = int(stream.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"worker.child" in command and parent == os.getpid():
            found.append(int(entry))
    return found


def test_a_run_goes_the_whole_way(engine, state):
    with working(engine, state):
        run_id = submit(engine)
        row = ended(engine, run_id)
    assert row.state is RunState.SUCCEEDED, row.failure
    assert row.attempt == 1
    assert row.summary["verdict"] == "incomplete"
    assert row.facts["threads"] == 1
    with reading(engine) as connection:
        names = {a.name for a in artifacts.listing(connection, run_id)}
        (evaluation,) = evaluations.listing(connection, run_id)
        steps, losses = metrics.history(connection, run_id, "train/loss")
        lines = logs.tail(connection, run_id)
        states = [e.target for e in history.events(connection, run_id)]
        slot = fleet.all_workers(connection)[0].slots[0]
    assert names == {
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "evaluation/outcomes.safetensors",
        "evaluation/evidence.safetensors",
        "figures/budget.png",
        "weights/final.safetensors",
    }
    assert evaluation.verdict == "incomplete"
    assert steps == [0, 3, 7, 10, 11], "every ten steps, and the last of every epoch"
    assert all(loss > 0 for loss in losses)
    said = [line.message for line in lines]
    assert said[0] == "attempt 1 begins on tests (cpu 0)"
    assert [line[:9] for line in said if line.startswith("epoch ")] == [
        "epoch 1/3", "epoch 2/3", "epoch 3/3",
    ]  # fmt: skip
    assert any("audit: incomplete" in line for line in said)
    assert said[-1].startswith("succeeded after ")
    with reading(engine) as connection:
        took = running_time.took(connection, [run_id], row.finished_at)[run_id]
    assert row.summary["seconds"] == round(took, 1), "one clock"
    assert states == ["queued", "running", "succeeded"]
    assert slot.run_id is None
    assert not list((state / "work").iterdir()), "the work folder is left behind"


def test_a_killed_child_is_resumed_to_the_same_bits(engine, state):
    """Done-when 4: SIGKILL in mid-training, equal sha256 of the final weights."""
    body = {**TINY, "training": {"epochs": 20, "batch_size": 64}}
    with working(engine, state):
        undisturbed = submit(engine, body)
        assert ended(engine, undisturbed).state is RunState.SUCCEEDED
        killed = submit(engine, body)
        for resumptions in (0, 1):
            until(at_step(engine, killed, 5))
            until(lambda count=resumptions: len(resumed(engine, killed)) == count)
            (pid,) = child_pids()
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: pid not in child_pids())
        row = ended(engine, killed)
    assert row.state is RunState.SUCCEEDED, row.failure
    assert row.attempt == 3
    assert weights(engine, killed) == weights(engine, undisturbed)
    with reading(engine) as connection:
        series = [
            {s.name: metrics.history(connection, r, s.name) for s in metrics.summary(connection, r)}
            for r in (undisturbed, killed)
        ]
        reasons = [e.reason for e in history.events(connection, killed)]
        told = [line.message for line in logs.tail(connection, killed)]
    assert len(resumed(engine, killed)) == 2
    assert series[0] == series[1], "metrics have gaps or doubles"
    assert sum("SIGKILL" in reason for reason in reasons) == 2
    assert sum("SIGKILL" in line for line in told) == 2
    begun = [line for line in told if line.startswith("attempt") and "begins" in line]
    assert begun == [f"attempt {i} begins on tests (cpu 0)" for i in (1, 2, 3)]


def test_a_wish_to_cancel_is_granted(sqlite_engine, state):
    engine = sqlite_engine
    with working(engine, state):
        run_id = submit(engine, {**TINY, "training": {"epochs": 500, "batch_size": 64}})
        until(at_step(engine, run_id, 4))
        with writing(engine) as connection:
            runs.request_cancel(connection, run_id, now=NOW, actor="ada")
        row = ended(engine, run_id)
        until(lambda: child_pids() == [])
    assert row.state is RunState.CANCELLED


def test_a_stopping_worker_hands_its_run_back_and_another_goes_on(sqlite_engine, state):
    engine = sqlite_engine
    body = {**TINY, "training": {"epochs": 40, "batch_size": 64, "checkpoint_every": 1000}}
    with working(engine, state):
        run_id = submit(engine, body)
        until(at_step(engine, run_id, 3))
    row = look(engine, run_id)
    assert row.state is RunState.QUEUED
    assert row.not_before <= row.advanced_at, "a planned stop costs no backoff"
    with reading(engine) as connection:
        assert artifacts.checkpoint(connection, run_id, "last").step >= 3
    with working(engine, state):
        row = ended(engine, run_id)
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 2)


def test_a_run_waits_for_its_data_and_damaged_data_end_it(sqlite_engine, tmp_path):
    """Files by whose names it starts, and which then are not what they should be."""
    engine, state = sqlite_engine, tmp_path
    with working(engine, state):
        run_id = submit(engine, {"preset": "part", "data": {"dataset": "svhn"}})
        assert ended(engine, submit(engine)).state is RunState.SUCCEEDED, "others go first"
    with reading(engine) as connection:
        (worker,) = fleet.all_workers(connection)
        row = runs.get(connection, run_id)
        wait = waits.wait_of(connection, row, worker.seen_at)
    assert (row.state, row.attempt, worker.datasets) == (RunState.QUEUED, 0, ())
    assert (wait.state, "partcore.data download svhn" in wait.waits_for) == ("data missing", True)
    for name in datasets.FILES["svhn"]:
        (state / "data" / name).parent.mkdir(exist_ok=True)
        (state / "data" / name).write_bytes(b"half of it")
    with working(engine, state):
        row = ended(engine, run_id)
    assert (row.state, row.attempt) == (RunState.FAILED, 1)
    assert row.failure["failure_class"] == "data-missing"
    assert "partcore.data download svhn" in row.failure["message"]


def test_an_evaluation_and_a_picture_of_a_finished_run(sqlite_engine, state):
    engine = sqlite_engine
    with working(engine, state):
        trained = submit(engine)
        assert ended(engine, trained).state is RunState.SUCCEEDED
        source = look(engine, trained)
        spec = RUN_SPEC.validate_python(source.spec)
        rows = []
        own = {"kind": "transfer", "source": {"run": trained}}
        for body in (
            {"kind": "evaluate", "evaluation": {"attacks": [{"kind": "pgd"}, own]}},
            {"kind": "visualise", "images": 2},
        ):
            others = {at: spec for at, _ in named_sources(body) if at.startswith("/evaluation")}
            with writing(engine) as connection:
                whole = expand({**body, "source": {"run": trained}}, source=spec, others=others)
                run = runs.submit(connection, spec=whole, owner="ada", now=NOW).run
            rows.append(ended(engine, run.id))
    assert [row.state for row in rows] == [RunState.SUCCEEDED] * 2, [r.failure for r in rows]
    assert rows[0].summary["clean_accuracy"] == source.summary["clean_accuracy"]
    with reading(engine) as connection:
        (file,) = artifacts.listing(connection, rows[1].id)
        (judged,) = evaluations.listing(connection, rows[0].id)
    transfer = judged.record["results"][2]
    assert transfer["surrogate"]["model_sha256"] == judged.record["model_sha256"]
    assert transfer["accuracy"] <= judged.record["results"][0]["accuracy"]
    assert file.name == "figures/budget.png"


def test_uploaded_weights_are_attacked_and_drawn(sqlite_engine, state):
    engine = sqlite_engine
    raw = making_weights.file()
    blobs = Blobs(settings(engine, state).artifacts)
    inspected = checkpoints.inspect(io.BytesIO(raw), "small-cnn")
    with writing(engine) as connection:
        row = checkpoints.register(
            connection,
            inspected,
            key=blobs.put_stream(io.BytesIO(raw), folder="uploads"),
            model="small-cnn",
            name=None,
            owner="ada",
            now=NOW,
        )
    known = Uploaded(row.model, row.channels, row.classes)
    shared = {"source": {"checkpoint": row.id}, "data": {"dataset": "digits", "test_limit": 20}}
    rows = []
    with working(engine, state):
        for body in (
            {"kind": "evaluate", "evaluation": {"attacks": [{"kind": "fgsm"}]}},
            {"kind": "visualise", "images": 2},
        ):
            with writing(engine) as connection:
                whole = expand({**body, **shared}, source=known)
                run = runs.submit(connection, spec=whole, owner="ada", now=NOW).run
            rows.append(ended(engine, run.id))
    assert [one.state for one in rows] == [RunState.SUCCEEDED] * 2, [one.failure for one in rows]
    with reading(engine) as connection:
        (found,) = evaluations.listing(connection, rows[0].id)
    assert found.record["weights"] == "uploaded"
    # All weights of a class are alike: every image is of the first class, whatever it shows.
    assert found.record["results"][0]["accuracy"] == pytest.approx(0.1, abs=0.11)
