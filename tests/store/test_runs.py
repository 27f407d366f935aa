import re
import threading
from pathlib import Path

import pytest

from domain.errors import (
    Fenced,
    IdempotencyMismatch,
    InvalidTransition,
    NotFound,
    SpecInvalid,
)
from domain.run_state import RunState
from store import artifacts, evaluations, history, logs, metrics, queue, runs
from store.engine import reading, writing
from store.rows import NewArtifact
from tests.store.databases import DIGITS, LEASE, NOW, after
from tests.store.making import claimed, host, queued, running

ROOT = Path(__file__).parent.parent.parent


def test_what_is_submitted_comes_back_whole(engine):
    with writing(engine) as connection:
        sent = queued(connection, name="a run", tags=["x", "y"], seed=7, priority=3)
    with reading(engine) as connection:
        row = runs.get(connection, sent.id)
    assert row == sent
    assert (row.state, row.version, row.attempt) == (RunState.QUEUED, 1, 0)
    assert (row.name, row.tags, row.seed, row.priority) == ("a run", ("x", "y"), 7, 3)
    assert row.spec["method"]["epsilon_low"] == "7/40"
    assert row.spec_sha256 == runs.spec_sha256(row.spec)
    assert row.submitted_at == NOW


def test_the_same_key_and_body_make_one_run(engine):
    with writing(engine) as connection:
        made = [
            runs.submit(connection, spec=DIGITS, owner="ada", now=NOW, idempotency=("k", "body"))
            for _ in range(2)
        ]
    assert [m.created for m in made] == [True, False]
    assert made[0].run == made[1].run


def test_the_same_key_with_another_body_is_refused_and_another_owner_is_not(engine):
    with writing(engine) as connection:
        first = runs.submit(
            connection, spec=DIGITS, owner="ada", now=NOW, idempotency=("k", "body")
        )
        with pytest.raises(IdempotencyMismatch):
            runs.submit(connection, spec=DIGITS, owner="ada", now=NOW, idempotency=("k", "other"))
        other = runs.submit(
            connection, spec=DIGITS, owner="bob", now=NOW, idempotency=("k", "other")
        )
    assert other.run.id != first.run.id


def test_one_key_from_many_threads_makes_one_run(engine):
    made: list[str] = []

    def submit() -> None:
        with writing(engine) as connection:
            done = runs.submit(
                connection, spec=DIGITS, owner="ada", now=NOW, idempotency=("k", "b")
            )
        made.append(done.run.id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(made) == 8
    assert len(set(made)) == 1


def test_only_transition_writes_a_state():
    """The column is set in one function of store/runs.py and nowhere else."""
    writers = []
    files = [f for package in ("store", "worker", "api") for f in ROOT.glob(f"{package}/**/*.py")]
    for file in (f for f in files if "store.tables" in f.read_text()):
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            if re.search(r"""["']state["']\s*:|\bvalues\([^)]*\bstate=""", line):
                writers.append((file.name, number))
    allowed = (ROOT / "store/runs.py").read_text().splitlines()
    lines = [allowed[number - 1].strip() for name, number in writers if name == "runs.py"]
    assert [name for name, _ in writers] == ["runs.py"] * len(lines)
    assert lines == [
        '"state": RunState.QUEUED,',
        'values: dict[str, Any] = {**(columns or {}), "state": to, "version": row.version + 1}',
    ]


@pytest.mark.parametrize("to", [RunState.SUCCEEDED, RunState.CANCELLING, RunState.QUEUED])
def test_a_queued_run_cannot_become(sqlite_engine, to):
    with writing(sqlite_engine) as connection:
        run = queued(connection)
        with pytest.raises(InvalidTransition):
            runs.transition(connection, run.id, to=to, now=NOW, reason="no")
        assert runs.get(connection, run.id) == run


def test_a_transition_is_written_down_with_its_reason(engine):
    with writing(engine) as connection:
        claim = running(connection)
        what = {"failure_class": "code", "code": "x", "message": "m", "traceback": None}
        row = runs.transition(
            connection,
            claim.run.id,
            to=RunState.FAILED,
            now=after(5),
            reason="it broke",
            attempt=1,
            columns={"failure": what},
        )
        told = history.events(connection, claim.run.id)
    assert (row.failure, row.finished_at) == (what, after(5))
    assert [(e.source, e.target, e.attempt) for e in told] == [
        (None, "queued", 0),
        ("queued", "running", 1),
        ("running", "failed", 1),
    ]
    assert told[-1].reason == "it broke"


def test_cancelling(engine):
    with writing(engine) as connection:
        waiting = queued(connection)
        assert (
            runs.request_cancel(connection, waiting.id, now=NOW, actor="ada").state == "cancelled"
        )
        with pytest.raises(InvalidTransition):
            runs.request_cancel(connection, waiting.id, now=NOW, actor="ada")
        claim = running(connection)
        for _ in range(2):
            row = runs.request_cancel(connection, claim.run.id, now=NOW, actor="ada")
            assert row.state == "cancelling"
        assert queue.renew(connection, row.id, 1, now=after(1), lease=LEASE).cancel_requested


def test_a_retry_is_a_new_run_with_the_same_spec(engine):
    with writing(engine) as connection:
        run = queued(connection, seed=9)
        with pytest.raises(InvalidTransition):
            runs.retry(connection, run.id, now=NOW, owner="ada")
        runs.request_cancel(connection, run.id, now=NOW, actor="ada")
        again = runs.retry(connection, run.id, now=after(1), owner="bob")
    assert again.id != run.id
    assert (again.retry_of, again.owner, again.spec) == (run.id, "bob", run.spec)


def test_a_retry_follows_the_retries_of_those_that_it_followed(engine):
    """Each is the newest that may still succeed; what succeeded is followed as it is."""
    with writing(engine) as connection:
        host(connection)
        done = running(connection).run.id
        runs.transition(connection, done, to=RunState.SUCCEEDED, now=NOW, reason="", attempt=1)
        first = running(connection, now=after(-9)).run.id
        follower = queued(connection, after=[first, done])
        runs.transition(connection, first, to=RunState.FAILED, now=NOW, reason="", attempt=1)
        second = runs.retry(connection, first, now=after(1), owner="ada").id
        runs.request_cancel(connection, second, now=after(2), actor="ada")
        third = runs.retry(connection, second, now=after(3), owner="ada").id
        fourth = runs.retry(connection, first, now=after(4), owner="ada").id
        runs.request_cancel(connection, fourth, now=after(5), actor="ada")
        again = runs.retry(connection, follower.id, now=after(6), owner="ada")
    assert again.spec["after"] == [third, done]
    assert (again.state, again.blockers, again.retry_of) == (RunState.QUEUED, 1, follower.id)
    assert again.spec_sha256 == runs.spec_sha256(again.spec)


def test_a_retry_starts_from_the_weights_of_the_run_that_it_follows_now():
    """Its own source and those of its attacks; what is no source keeps its text."""
    old, new = "0" * 18, "1" * 18
    spec = {
        "after": [old],
        "name": old,
        "source": {"run": old, "weights": "best", "checkpoint": None},
        "evaluation": {"attacks": [{"source": {"run": "2" * 18}}, {"source": {"run": old}}]},
    }
    assert runs._following(spec, {old: new}) == {
        "after": [new],
        "name": old,
        "source": {"run": new, "weights": "best", "checkpoint": None},
        "evaluation": {"attacks": [{"source": {"run": "2" * 18}}, {"source": {"run": new}}]},
    }


def test_what_followed_a_failure_is_retried_after_it(engine):
    with writing(engine) as connection:
        first = running(connection).run.id
        follower = queued(connection, after=[first])
        runs.transition(connection, first, to=RunState.FAILED, now=NOW, reason="", attempt=1)
        with pytest.raises(SpecInvalid, match=f"retry run {first} first") as caught:
            runs.retry(connection, follower.id, now=after(1), owner="ada")
        second = runs.retry(connection, first, now=after(2), owner="ada").id
        runs.request_cancel(connection, second, now=after(3), actor="ada")
        with pytest.raises(SpecInvalid, match=f"retry run {second} first"):
            runs.retry(connection, follower.id, now=after(4), owner="ada")
    assert caught.value.errors[0].pointer == "/after/0"


def test_every_write_of_a_run_is_fenced(engine):
    """An old attempt, and one of a finished run, change nothing at all."""
    file = NewArtifact("n", "figure", "image/png", "0" * 64, 1, "key")
    with writing(engine) as connection:
        run_id = running(connection).run.id
        runs.transition(connection, run_id, to=RunState.QUEUED, now=NOW, reason="lost", attempt=1)
        second = claimed(connection, now=after(1))
        assert second is not None
        assert second.attempt == 2
        before, said = runs.get(connection, run_id), logs.tail(connection, run_id)
        writes = [
            lambda c: runs.fence(c, run_id, 1),
            lambda c: runs.record_progress(c, run_id, 1, {}, NOW),
            lambda c: runs.record_facts(c, run_id, 1, {}),
            lambda c: runs.record_summary(c, run_id, 1, {}),
            lambda c: runs.transition(
                c, run_id, to=RunState.SUCCEEDED, now=NOW, reason="", attempt=1
            ),
            lambda c: queue.renew(c, run_id, 1, now=NOW, lease=LEASE),
            lambda c: queue.requeue(c, run_id, 1, now=NOW, reason="", max_attempts=3),
            lambda c: queue.hand_back(c, run_id, 1, now=NOW, reason=""),
            lambda c: metrics.append(c, run_id, 1, batch=1, steps=[0], values={"x": [1.0]}),
            lambda c: metrics.supersede(c, run_id, 1, from_step=0),
            lambda c: logs.append(c, run_id, 1, [("info", "x")], NOW),
            lambda c: artifacts.register(c, run_id, 1, file, now=NOW),
            lambda c: artifacts.discard_superseded(c, run_id, 1),
            lambda c: evaluations.record(c, run_id, 1, None, NOW),  # type: ignore[arg-type]
        ]
        for write in writes:
            with pytest.raises(Fenced):
                write(connection)
        assert runs.get(connection, run_id) == before
        assert metrics.summary(connection, run_id) == []
        assert logs.tail(connection, run_id) == said
        assert artifacts.listing(connection, run_id) == []


def test_pages_do_not_shift_when_runs_arrive(engine):
    with writing(engine) as connection:
        ids = [queued(connection, now=after(i)).id for i in range(7)]
        first = runs.find(connection, limit=3)
        queued(connection, now=after(100))
        second = runs.find(connection, limit=3, cursor=first.next_cursor)
        third = runs.find(connection, limit=3, cursor=second.next_cursor)
    seen = [r.id for page in (first, second, third) for r in page.items]
    assert seen == ids[::-1]
    assert third.next_cursor is None


def test_runs_are_found_by_what_they_are(engine):
    with writing(engine) as connection:
        host(connection)
        a = queued(connection, name="alpha_1", experiment="one")
        b = queued(connection, owner="bob", now=after(1), experiment="two")
        assert claimed(connection).run.id == a.id

        def ids(**wanted: object) -> list[str]:
            return [r.id for r in runs.find(connection, **wanted).items]

        assert ids() == [b.id, a.id]
        assert ids(states=[RunState.QUEUED]) == [b.id]
        assert ids(owner="ada") == [a.id]
        assert ids(experiment="two") == [b.id]
        assert ids(text="ALPHA") == [a.id]
        assert ids(text="a_1") == [a.id]
        assert ids(text="_lpha") == []


def test_an_unknown_run_is_not_found(sqlite_engine):
    with reading(sqlite_engine) as connection:
        for question in (runs.get, runs.version):
            with pytest.raises(NotFound):
                question(connection, "0" * 18)
    with writing(sqlite_engine) as connection, pytest.raises(NotFound):
        runs.request_cancel(connection, "0" * 18, now=NOW, actor="ada")


def test_what_a_run_says_of_itself_is_kept(engine):
    with writing(engine) as connection:
        run_id = running(connection).run.id
        runs.record_progress(connection, run_id, 1, {"done": 1}, after(3))
        runs.record_facts(connection, run_id, 1, {"torch": "2"})
        runs.record_summary(connection, run_id, 1, {"verdict": "sound"})
        row = runs.get(connection, run_id)
        assert runs.version(connection, run_id) == (row.version, row.state)
    assert (row.progress, row.facts) == ({"done": 1}, {"torch": "2"})
    assert (row.summary, row.advanced_at) == ({"verdict": "sound"}, after(3))
    assert row.version == 5
