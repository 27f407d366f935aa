"""How attempts end, with children that misbehave (`odd_child.py`) instead of training."""

import hashlib
import os
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.run_state import RunState
from store import artifacts, history, logs, metrics, queue, runs
from store.blobs import Blobs
from store.engine import database_now, reading, writing
from tests.store.databases import fresh_engine
from tests.waiting import until
from tests.worker import odd_child
from tests.worker.lab import TINY, ended, look, settings, submit
from worker.database import persist
from worker.dispatcher import Dispatcher
from worker.supervisor import MARGIN, Supervisor
from worker.wake import Wake

ODD = (str(Path(odd_child.__file__)),)


@contextmanager
def odd_worker(engine, state, **over):
    values = {"poll_seconds": 0.05, "renew_seconds": 0.2, "lease_seconds": 3, **over}
    dispatcher = Dispatcher(settings(engine, state, **values), wake=Wake(), entry=ODD)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()


def odd(engine, behaviour, **over):
    return submit(engine, {**TINY, "name": behaviour, **over})


def running(engine, run_id):
    """Whether the child has said something."""
    return lambda: look(engine, run_id).progress is not None


def ask_to_cancel(engine, run_id):
    with writing(engine) as connection:
        runs.request_cancel(connection, run_id, now=database_now(connection), actor="ada")


def reasons(engine, run_id):
    with reading(engine) as connection:
        return [event.reason for event in history.events(connection, run_id)]


def log_text(engine, run_id):
    with reading(engine) as connection:
        return "\n".join(row.message for row in logs.tail(connection, run_id))


def child_of(engine, run_id):
    """The process id of a run's child, by its work folder."""
    wanted = f"{run_id}-{look(engine, run_id).attempt}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if wanted in command:
                return int(entry.name)
    return None


def gone(pid):
    """Whether a process is no more, or only its exit status is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_everything_a_child_says_is_kept(engine, tmp_path):
    with odd_worker(engine, tmp_path):
        row = ended(engine, odd(engine, "obedient"))
    assert (row.state, row.attempt, row.failure) == (RunState.SUCCEEDED, 1, None)
    assert row.facts == {"threads": 1, "resumed": False}
    assert row.progress["done"] == 1
    with reading(engine) as connection:
        steps, values = metrics.history(connection, row.id, "train/loss")
        kept = artifacts.checkpoint(connection, row.id, "last")
    assert steps == [0, 1]
    assert values[0] == 2.0
    assert values[1] != values[1]
    assert "half way" in log_text(engine, row.id)
    blob = Blobs(str(tmp_path / "artifacts")).open(kept.key).read()
    assert (blob, kept.step) == (b"weights of step 2", 2)


def test_a_child_sees_no_secret_and_runs_in_the_state_folder(sqlite_engine, tmp_path, monkeypatch):
    secrets = {
        "PARTLAB_DATABASE_URL": "postgresql+psycopg://lab:hunter2@127.0.0.1/lab",
        "PARTLAB_BROKER_URL": "redis://:hunter2@127.0.0.1:6379/0",
        "PART_TOKEN": "hunter2",
        "AWS_SECRET": "hunter2",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    with odd_worker(sqlite_engine, tmp_path):
        summary = ended(sqlite_engine, odd(sqlite_engine, "obedient")).summary
    seen = set(summary["environment"].split(","))
    assert not [n for n in seen if n.startswith(("PARTLAB", "PART_", "AWS"))]
    assert {"PYTHONSAFEPATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"} <= seen
    assert summary["cwd"] == str(tmp_path)


def test_a_killed_child_goes_on_from_its_checkpoint_without_gap_or_double(engine, tmp_path):
    with odd_worker(engine, tmp_path):
        row = ended(engine, odd(engine, "dies_once"))
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 2)
    with reading(engine) as connection:
        series = metrics.history(connection, row.id, "train/loss")
        (overall,) = metrics.summary(connection, row.id)
    assert series == ([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0])
    assert overall.maximum == 4.0
    assert any("SIGKILL" in reason for reason in reasons(engine, row.id))


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("dies_always", "ended with status 77"),
        ("babbles", "could not be kept"),
        ("lies", "is not what was written"),
        ("imagines", "nowhere.png"),
    ],
)
def test_an_attempt_without_a_verdict_is_tried_again_up_to_the_cap(
    sqlite_engine, tmp_path, behaviour, told
):
    with odd_worker(sqlite_engine, tmp_path, max_attempts=2):
        row = ended(sqlite_engine, odd(sqlite_engine, behaviour))
    assert (row.state, row.attempt) == (RunState.FAILED, 2)
    assert row.failure["failure_class"] == "infrastructure"
    assert told in row.failure["message"]
    first = reasons(sqlite_engine, row.id)[2]
    assert told in first
    assert "attempt 2 may start in 1 s" in first
    assert not list((tmp_path / "work").iterdir())


def test_checkpoints_written_faster_than_stored_are_all_whole(engine, tmp_path, monkeypatch):
    put = Blobs.put

    def slow(self, file, **named):
        time.sleep(0.03)
        return put(self, file, **named)

    monkeypatch.setattr(Blobs, "put", slow)
    with odd_worker(engine, tmp_path):
        row = ended(engine, odd(engine, "hasty"))
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 1), reasons(engine, row.id)
    with reading(engine) as connection:
        kept = artifacts.checkpoint(connection, row.id, "last")
    blob = Blobs(str(tmp_path / "artifacts")).open(kept.key).read()
    assert blob == b"weights of step 20"
    assert hashlib.sha256(blob).hexdigest() == kept.sha256


def test_the_last_words_of_a_lost_child_are_kept(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path, max_attempts=1):
        row = ended(sqlite_engine, odd(sqlite_engine, "dies_always"))
    assert "terrible things happened" in log_text(sqlite_engine, row.id)


def test_a_failure_of_the_spec_is_final_at_once(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "gives_up"))
    assert (row.state, row.attempt) == (RunState.FAILED, 1)
    assert row.failure["failure_class"] == "spec"
    assert row.failure["message"] == "cannot be done"


def test_a_child_that_says_nothing_leaves_its_stacks_and_is_stopped(
    sqlite_engine, tmp_path, monkeypatch
):
    monkeypatch.setattr("worker.supervisor.PATIENCE", 0.5)
    with odd_worker(sqlite_engine, tmp_path, stuck_minutes=4 / 60):
        run_id = odd(sqlite_engine, "deaf")
        row = ended(sqlite_engine, run_id)
    assert (row.state, row.attempt) == (RunState.FAILED, 1)
    assert (row.failure["failure_class"], row.failure["code"]) == ("stuck", "stuck")
    written = log_text(sqlite_engine, run_id)
    assert "most recent call first" in written
    assert "in deaf" in written, "where it slept"


def test_a_child_deaf_to_sigterm_is_killed(sqlite_engine, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.supervisor.PATIENCE", 0.5)
    with odd_worker(sqlite_engine, tmp_path):
        run_id = odd(sqlite_engine, "deaf")
        until(running(sqlite_engine, run_id))
        pid = child_of(sqlite_engine, run_id)
        ask_to_cancel(sqlite_engine, run_id)
        row = ended(sqlite_engine, run_id)
        assert gone(pid), "the slot is free before the process is"
    assert row.state is RunState.CANCELLED


def test_nothing_of_a_childs_group_outlives_it(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "fatherly"))
    assert row.state is RunState.SUCCEEDED
    until(lambda: gone(row.summary["left_behind"]), seconds=5)


def test_a_planned_stop_takes_a_checkpoint_and_costs_no_wait(engine, tmp_path):
    with odd_worker(engine, tmp_path):
        run_id = odd(engine, "endless")
        until(running(engine, run_id))
        pid = child_of(engine, run_id)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert gone(pid)
    row = look(engine, run_id)
    assert row.state is RunState.QUEUED
    assert row.not_before <= row.advanced_at
    with reading(engine) as connection:
        assert artifacts.checkpoint(connection, run_id, "last") is not None
    assert "worker stopped" in reasons(engine, run_id)[-1]


def test_a_frozen_child_does_not_stop_a_worker_from_stopping(sqlite_engine, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.supervisor.PATIENCE", 0.5)
    with odd_worker(sqlite_engine, tmp_path, stop_seconds=1):
        run_id = odd(sqlite_engine, "endless")
        until(running(sqlite_engine, run_id))
        pid = child_of(sqlite_engine, run_id)
        os.kill(pid, signal.SIGSTOP)
    assert gone(pid)
    assert look(sqlite_engine, run_id).state is RunState.QUEUED


def test_a_child_is_dead_before_its_lease_can_pass_on(engine, tmp_path):
    """The lease is taken away behind the worker's back: the zombie writes nothing more."""
    with odd_worker(engine, tmp_path, renew_seconds=0.3) as dispatcher:
        run_id = odd(engine, "endless")
        until(running(engine, run_id))
        pid = child_of(engine, run_id)
        dispatcher.refuse()
        with writing(engine) as connection:
            now = database_now(connection)
            queue.requeue(connection, run_id, 1, now=now, reason="stolen", max_attempts=5)
        until(lambda: gone(pid), seconds=5)
        before = look(engine, run_id)
        time.sleep(0.5)
        assert look(engine, run_id) == before
    assert look(engine, run_id).state is RunState.QUEUED


def test_an_outage_longer_than_the_lease_ends_the_child_and_shorter_ones_do_not(tmp_path):
    """The database is locked by another writer, which is what an outage of SQLite looks like."""
    with fresh_engine("sqlite") as engine:
        raw = sa.create_engine(engine.url, connect_args={"timeout": 20})
        with odd_worker(engine, tmp_path, lease_seconds=2) as dispatcher:
            dispatcher._engine.dispose()
            sa.event.listen(dispatcher._engine, "connect", _give_up_quickly)
            run_id = odd(engine, "endless")
            until(running(engine, run_id))
            with locked(raw, seconds=0.8):
                pass
            attempt = look(engine, run_id).attempt
            pid = child_of(engine, run_id)
            with locked(raw, seconds=2.5):
                assert gone(pid), "the child outlived its lease"
            until(lambda: look(engine, run_id).attempt == attempt + 1, seconds=20)
        assert attempt == 1
        raw.dispose()


def _give_up_quickly(connection, _record):
    connection.execute("PRAGMA busy_timeout=50")


@contextmanager
def locked(engine, *, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        time.sleep(seconds)
        yield
        connection.rollback()


def test_a_full_artifact_store_ends_the_run_and_leaves_the_last_checkpoint_whole(tmp_path):
    """The kernel refuses to let this process write more than 1 MB into one file."""
    with fresh_engine("postgresql") as engine:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with odd_worker(engine, tmp_path):
                row = ended(engine, odd(engine, "heavy"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with reading(engine) as connection:
            kept = artifacts.checkpoint(connection, row.id, "last")
        told = reasons(engine, row.id)
    assert (row.state, row.attempt) == (RunState.FAILED, 1), told
    assert row.failure["failure_class"] == "disk-full"
    assert kept.step == 3
    content = Blobs(str(tmp_path / "artifacts")).open(kept.key).read()
    assert hashlib.sha256(content).hexdigest() == kept.sha256
    files = [p for p in (tmp_path / "artifacts" / row.id).rglob("*") if p.is_file()]
    assert len(files) == 1, "an incomplete copy is left behind"


def test_a_disk_full_while_checkpointing_ends_the_run_with_that_reason(sqlite_engine, tmp_path):
    engine = sqlite_engine
    body = {**TINY, "name": "full_disk", "training": {"epochs": 4, "checkpoint_every": 1}}
    with odd_worker(engine, tmp_path, lease_seconds=6):
        row = ended(engine, submit(engine, body))
    assert (row.state, row.attempt) == (RunState.FAILED, 1)
    assert row.failure["failure_class"] == "disk-full", row.failure
    assert "last.safetensors" in row.failure["message"] or "best" in row.failure["message"]
    with reading(engine) as connection:
        kept = artifacts.checkpoint(connection, row.id, "last")
    content = Blobs(str(tmp_path / "artifacts")).open(kept.key).read()
    assert hashlib.sha256(content).hexdigest() == kept.sha256


def test_a_want_of_memory_has_its_own_name(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path, lease_seconds=6):
        row = ended(sqlite_engine, odd(sqlite_engine, "no_memory"))
    assert row.failure["failure_class"] == "out-of-memory", row.failure
    assert "batch_size" in row.failure["message"]


def test_a_checkpoint_damaged_in_the_store_is_never_trained_on(sqlite_engine, tmp_path):
    engine = sqlite_engine
    with odd_worker(engine, tmp_path):
        run_id = odd(engine, "endless")
        until(running(engine, run_id))
    with reading(engine) as connection:
        kept = artifacts.checkpoint(connection, run_id, "last")
    (tmp_path / "artifacts" / kept.key).write_bytes(b"not what was stored")
    told = "starting again from the beginning: last.safetensors in the artifact store is damaged"
    with odd_worker(engine, tmp_path):
        until(lambda: told in log_text(engine, run_id), seconds=10)
        ask_to_cancel(engine, run_id)
        assert ended(engine, run_id).state is RunState.CANCELLED


def test_a_source_without_weights_is_told(sqlite_engine, tmp_path):
    """The trained run was cancelled before it had weights worth attacking."""
    from domain.presets import RUN_SPEC, expand

    engine = sqlite_engine
    trained = odd(engine, "endless")
    spec = RUN_SPEC.validate_python(look(engine, trained).spec)
    ask_to_cancel(engine, trained)
    body = {"kind": "evaluate", "source": {"run": trained}}
    with writing(engine) as connection:
        whole = expand(body, source=spec)
        now = database_now(connection)
        run = runs.submit(connection, spec=whole, owner="ada", now=now).run
    with odd_worker(engine, tmp_path):
        row = ended(engine, run.id)
    assert row.state is RunState.FAILED
    assert f"run {trained} has no best weights" in row.failure["message"]


def test_a_child_that_cannot_start_is_an_infrastructure_loss(
    sqlite_engine, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with odd_worker(sqlite_engine, tmp_path, max_attempts=1):
        row = ended(sqlite_engine, odd(sqlite_engine, "obedient"))
    assert row.failure["failure_class"] == "infrastructure"
    assert "no-such-python" in row.failure["message"]
    assert "its supervisor failed" in caplog.text
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 8, "pipes are left open"


def test_a_supervisor_that_breaks_leaves_no_child(sqlite_engine, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr("worker.recorder.Recorder._progress", broken)
    seen = []
    start = Supervisor._start

    def noted(self, assignment):
        child = start(self, assignment)
        seen.append(child.process.pid)
        return child

    monkeypatch.setattr(Supervisor, "_start", noted)
    with odd_worker(sqlite_engine, tmp_path, max_attempts=1):
        row = ended(sqlite_engine, odd(sqlite_engine, "endless"))
        assert all(gone(pid) for pid in seen)
    assert "a defect of ours" in row.failure["message"]


def test_a_run_that_said_it_finished_has_finished_however_its_interpreter_ends(
    sqlite_engine, tmp_path, caplog
):
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "ends_badly"))
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 1)
    assert row.summary["done"] is True
    assert "ended with status 77" in caplog.text


def test_a_store_that_is_away_costs_an_attempt_and_not_what_was_computed(
    engine, tmp_path, monkeypatch
):
    """A share that is not mounted looks like an empty folder: the checkpoint is needed later."""
    fetch, away = Blobs.fetch, ["once"]
    mounted, aside = tmp_path / "artifacts", tmp_path / "aside"

    def unmounted(self, key, target, *, sha256):
        if not away:
            return fetch(self, key, target, sha256=sha256)
        away.pop()
        mounted.rename(aside)
        mounted.mkdir()
        try:
            return fetch(self, key, target, sha256=sha256)
        finally:
            mounted.rmdir()
            aside.rename(mounted)

    monkeypatch.setattr(Blobs, "fetch", unmounted)
    with odd_worker(engine, tmp_path):
        row = ended(engine, odd(engine, "dies_once"))
    assert (row.state, row.attempt, row.losses) == (RunState.SUCCEEDED, 3, 2), row.failure
    with reading(engine) as connection:
        series = metrics.history(connection, row.id, "train/loss")
    assert series == ([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0])
    assert any("is not in the artifact store" in told for told in reasons(engine, row.id))
    assert "from the beginning" not in log_text(engine, row.id)


def test_a_source_that_is_away_is_no_fault_of_the_spec(sqlite_engine, tmp_path):
    from domain.presets import RUN_SPEC, expand

    engine = sqlite_engine
    with odd_worker(engine, tmp_path, max_attempts=1):
        trained = odd(engine, "obedient")
        spec = RUN_SPEC.validate_python(ended(engine, trained).spec)
        with reading(engine) as connection:
            kept = artifacts.checkpoint(connection, trained, "last")
        (tmp_path / "artifacts" / kept.key).unlink()
        body = {"kind": "evaluate", "source": {"run": trained, "weights": "last"}}
        with writing(engine) as connection:
            whole, now = expand(body, source=spec), database_now(connection)
            run = runs.submit(connection, spec=whole, owner="ada", now=now).run
        row = ended(engine, run.id)
    assert row.failure["failure_class"] == "infrastructure", row.failure


def test_a_pool_without_a_connection_is_an_outage(sqlite_engine, tmp_path, monkeypatch):
    renew, refusals = queue.renew, [PoolTimeout("QueuePool limit")]

    def sometimes(*arguments, **named):
        if refusals:
            raise refusals.pop()
        return renew(*arguments, **named)

    monkeypatch.setattr(queue, "renew", sometimes)
    with odd_worker(sqlite_engine, tmp_path):
        run_id = odd(sqlite_engine, "endless")
        until(running(sqlite_engine, run_id))
        pid = child_of(sqlite_engine, run_id)
        until(lambda: not refusals)
        time.sleep(3.5)  # longer than the lease
        assert not gone(pid)
        assert look(sqlite_engine, run_id).attempt == 1


def test_what_is_to_be_kept_waits_for_a_connection(sqlite_engine):
    refusals = [PoolTimeout("QueuePool limit")]

    def work(_connection):
        if refusals:
            raise refusals.pop()
        return "kept"

    assert persist(sqlite_engine, work) == "kept"


def test_there_are_connections_for_all_slots_at_once(sqlite_engine, tmp_path):
    dispatcher = Dispatcher(settings(sqlite_engine, tmp_path, cpu_slots=9), wake=Wake())
    assert dispatcher._engine.pool.size() == 20
    dispatcher._engine.dispose()


def test_a_child_is_ended_at_its_deadline_though_a_renewal_hangs(tmp_path, monkeypatch):
    """The child is frozen: it cannot see by itself that its lease has passed."""
    hangs, released = threading.Event(), threading.Event()
    renew = queue.renew

    def hanging(*arguments, **named):
        if hangs.is_set():
            released.wait(60)
            raise PoolTimeout("at last")
        return renew(*arguments, **named)

    monkeypatch.setattr(queue, "renew", hanging)
    monkeypatch.setattr("worker.supervisor.PATIENCE", 0.5)
    with fresh_engine("postgresql") as engine, odd_worker(engine, tmp_path):
        try:
            run_id = odd(engine, "endless")
            until(running(engine, run_id))
            pid = child_of(engine, run_id)
            os.kill(pid, signal.SIGSTOP)
            hangs.set()
            until(lambda: gone(pid), seconds=6)
        finally:
            released.set()


def test_the_first_deadline_counts_from_before_the_claim(sqlite_engine, tmp_path, monkeypatch):
    claim, begun, deadlines = queue.claim, [], []
    run = Supervisor.run

    def slow(*arguments, **named):
        begun.append(time.monotonic())
        claimed = claim(*arguments, **named)
        time.sleep(0.5)
        return claimed

    def noted(self):
        deadlines.append((begun[-1], self._deadline))
        run(self)

    monkeypatch.setattr(queue, "claim", slow)
    monkeypatch.setattr(Supervisor, "run", noted)
    with odd_worker(sqlite_engine, tmp_path, lease_seconds=60):
        ended(sqlite_engine, odd(sqlite_engine, "obedient"))
    ((asked, deadline),) = deadlines
    assert deadline <= asked + 60 * (1 - MARGIN)


def test_a_reaper_that_fails_does_not_stop_claiming(sqlite_engine, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("a row nobody can reap")

    monkeypatch.setattr("worker.dispatcher.reap", broken)
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "obedient"))
    assert row.state is RunState.SUCCEEDED
    assert "a row nobody can reap" in caplog.text


def test_a_failing_turn_does_not_end_the_worker(sqlite_engine, tmp_path, monkeypatch, caplog):
    from domain.errors import InvalidTransition

    errors = [RuntimeError("odd"), InvalidTransition("r", "cancelled", "running")]
    claim = queue.claim

    def sometimes(*arguments, **named):
        if errors:
            raise errors.pop(0)
        return claim(*arguments, **named)

    monkeypatch.setattr(queue, "claim", sometimes)
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "obedient"))
    assert row.state is RunState.SUCCEEDED
    assert "a turn of the worker failed" in caplog.text


def test_two_slots_work_at_once_and_a_third_run_waits(sqlite_engine, tmp_path):
    engine = sqlite_engine
    with odd_worker(engine, tmp_path, cpu_slots=2):
        ids = [odd(engine, "endless") for _ in range(3)]
        until(lambda: sum(look(engine, i).state is RunState.RUNNING for i in ids) == 2)
        time.sleep(0.3)
        assert [look(engine, i).state for i in ids].count(RunState.QUEUED) == 1
        for run_id in ids:
            ask_to_cancel(engine, run_id)
        assert {ended(engine, i).state for i in ids} == {RunState.CANCELLED}


def test_the_supervising_process_has_no_torch(tmp_path):
    import subprocess

    code = "import sys, worker.app, worker.supervisor; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)


def test_a_device_that_gave_way_costs_an_attempt_and_not_the_run(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, odd(sqlite_engine, "loses_its_gpu"))
    assert (row.state, row.attempt, row.losses) == (RunState.SUCCEEDED, 2, 1)
    with reading(sqlite_engine) as connection:
        reasons = [event.reason for event in history.events(connection, row.id)]
    assert any("unspecified launch failure" in reason for reason in reasons)


def hungry(engine, **training):
    return odd(engine, "hungry", training={**TINY["training"], **training})


def test_a_run_that_may_halve_goes_on_in_more_parts_when_memory_runs_out(engine, tmp_path):
    with odd_worker(engine, tmp_path):
        row = ended(engine, hungry(engine, halve_on_out_of_memory=True))
    assert (row.state, row.attempt, row.losses) == (RunState.SUCCEEDED, 3, 0)
    assert (row.summary["parts"], row.summary["resumed"]) == (4, True)
    assert row.facts["accumulation"] == 4
    with reading(engine) as connection:
        reasons = [event.reason for event in history.events(connection, row.id)]
    assert "out of memory: goes on with 4 parts a batch" in reasons


def test_a_rank_that_ran_out_of_memory_is_named_and_may_halve(sqlite_engine, tmp_path):
    training = {**TINY["training"], "halve_on_out_of_memory": True}
    with odd_worker(sqlite_engine, tmp_path):
        rows = [
            ended(sqlite_engine, odd(sqlite_engine, "loses_a_rank_to_memory")),
            ended(sqlite_engine, odd(sqlite_engine, "loses_a_rank_to_memory", training=training)),
        ]
    assert [(r.state, r.attempt) for r in rows] == [(RunState.FAILED, 1), (RunState.SUCCEEDED, 2)]
    assert rows[0].failure["failure_class"] == "out-of-memory"
    assert "batch_size" in rows[0].failure["message"]


def test_halving_is_asked_for_and_ends_at_two_images(sqlite_engine, tmp_path):
    with odd_worker(sqlite_engine, tmp_path):
        rows = [
            ended(sqlite_engine, hungry(sqlite_engine)),
            ended(sqlite_engine, hungry(sqlite_engine, halve_on_out_of_memory=True, batch_size=4)),
        ]
    assert [(r.state, r.attempt) for r in rows] == [(RunState.FAILED, 1), (RunState.FAILED, 2)]
    assert {row.failure["failure_class"] for row in rows} == {"out-of-memory"}


def test_kept_checkpoints_stay_beside_the_last_one_and_none_is_there_twice(engine, tmp_path):
    with odd_worker(engine, tmp_path):
        row = ended(engine, odd(engine, "keeps"))
    with reading(engine) as connection:
        files = {f.name: f for f in artifacts.listing(connection, row.id)}
        last = artifacts.checkpoint(connection, row.id, "last")
    names = ("epoch-0002", "epoch-0004", "last")
    assert (row.state, row.attempt) == (RunState.SUCCEEDED, 2)
    assert set(files) == {f"checkpoints/{name}.safetensors" for name in names}
    assert last.step == 5
    kept = Blobs(str(tmp_path / "artifacts")).open(files["checkpoints/epoch-0002.safetensors"].key)
    assert kept.read() == b"weights of step 2"
