"""A worker for tests: real database, real children, short leases."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from domain.presets import expand
from domain.run_state import RunState
from store import artifacts, logs, runs
from store.engine import reading, writing
from store.rows import RunRow
from tests.waiting import until
from worker.dispatcher import Dispatcher
from worker.settings import WorkerSettings
from worker.wake import Wake

TINY: dict[str, Any] = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 256, "test_limit": 64},
    "training": {"epochs": 3, "batch_size": 64},
    "method": {"attack": {"steps": 2}, "warmup_epochs": 1},
    "evaluation": {"attacks": [{"kind": "pgd", "steps": 8}]},
}
"""A whole PART++ run of a few seconds, most of them imports."""


def submit(engine: Engine, body: dict[str, Any] = TINY, **over: Any) -> str:
    """Queue a run as ada; return its id."""
    with writing(engine) as connection:
        spec = expand({**body, **over})
        return runs.submit(connection, spec=spec, owner="ada", now=datetime.now(UTC)).run.id


def look(engine: Engine, run_id: str) -> RunRow:
    """A run as it stands."""
    with reading(engine) as connection:
        return runs.get(connection, run_id)


def ended(engine: Engine, run_id: str) -> RunRow:
    """Wait for a run's end."""
    until(lambda: look(engine, run_id).state.is_terminal)
    return look(engine, run_id)


def weights(engine: Engine, run_id: str) -> str:
    """The sha256 of the final weights' file."""
    with reading(engine) as connection:
        (file,) = [a for a in artifacts.listing(connection, run_id) if a.kind == "weights"]
    return file.sha256


def at_step(engine: Engine, run_id: str, step: int) -> Callable[[], bool]:
    """Whether training got as far as ``step``."""

    def holds() -> bool:
        row = look(engine, run_id)
        assert row.state in (RunState.QUEUED, RunState.RUNNING), row.failure
        progress = row.progress or {}
        return progress.get("phase") == "train" and progress["done"] >= step

    return holds


def resumed(engine: Engine, run_id: str) -> list[str]:
    """What a run's attempts said when they went on from a checkpoint."""
    with reading(engine) as connection:
        lines = [line.message for line in logs.tail(connection, run_id)]
    return [line for line in lines if "resumed at" in line]


def settings(engine: Engine, state: Path, **over: Any) -> WorkerSettings:
    """Short leases, one CPU slot, one thread."""
    url = engine.url.render_as_string(hide_password=False)
    values: dict[str, Any] = {
        "state": state,
        "database_url": url,
        "worker_name": "tests",
        "gpu_slots": 0,
        "threads": 1,
        "standby": 0,
        "poll_seconds": 0.2,
        "lease_seconds": 6,
        "renew_seconds": 0.5,
        "stop_seconds": 30,
    }
    return WorkerSettings(**{**values, **over})


@contextmanager
def working(engine: Engine, state: Path, **over: Any) -> Iterator[Dispatcher]:
    """A dispatcher at work in threads of this process; its children are real."""
    dispatcher = Dispatcher(settings(engine, state, **over), wake=Wake())
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
