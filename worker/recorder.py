"""Turns a child's events into rows and blobs."""

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

from sqlalchemy import Connection, Engine

from domain.events import (
    ArtifactSaved,
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Log,
    Metrics,
    Progress,
    Started,
)
from store import artifacts, evaluations, logs, metrics, runs
from store.blobs import BLOCK, Blobs
from store.engine import database_now
from store.rows import NewArtifact
from worker.database import persist
from worker.outbox import take_away


class Damaged(Exception):
    """A file is not what the child said it wrote."""


class Recorder:
    """Records one attempt. Every write is fenced; the first refusal (Fenced) ends it."""

    def __init__(self, engine: Engine, blobs: Blobs, run_id: str, attempt: int, work: Path) -> None:
        self._engine = engine
        self._blobs = blobs
        self._run_id = run_id
        self._attempt = attempt
        self._work = work
        self._batch = 0
        self.checkpoints = 0
        """Resumable checkpoints kept so far."""
        self.phase: str | None = None
        """What the experiment is at."""
        self.progress: Progress | None = None
        """How far it is."""
        self.heard_at = time.monotonic()
        """When the child last said anything."""
        self.outcome: Finished | Failed | None = None
        self.give_up = threading.Event()

    def record(self, event: Event) -> None:
        """Keep one event.

        Raises Fenced, Gone, Damaged, and DiskFull when the artifact store has no space.
        """
        self.heard_at = time.monotonic()
        match event:
            case Started():
                self._write(runs.record_facts, event.facts)
            case Progress():
                self._progress(event)
            case Metrics():
                self._metrics(event)
            case Log():
                self.lines([(event.level, event.message)])
            case CheckpointSaved():
                self._keep(event, name=event.name, kind="checkpoint")
                self.checkpoints += event.role in artifacts.RESUMABLE
            case ArtifactSaved():
                self._keep(event, name=event.name, kind=event.kind)
            case Evaluated():
                self._evaluation(event)
            case Finished() | Failed():
                self.outcome = event
            case _:
                assert_never(event)

    def lines(self, lines: list[tuple[str, str]]) -> None:
        """Keep log lines."""

        def work(connection: Connection) -> None:
            logs.append(connection, self._run_id, self._attempt, lines, database_now(connection))

        self._persist(work)

    def _persist(self, work: Callable[[Connection], object]) -> None:
        persist(self._engine, work, give_up=self.give_up)

    def _write(self, function: Callable[..., object], value: object) -> None:
        self._persist(lambda connection: function(connection, self._run_id, self._attempt, value))

    def _progress(self, event: Progress) -> None:
        self.phase, self.progress = event.phase, event
        told = event.model_dump(mode="json", exclude={"type"})

        def work(connection: Connection) -> None:
            now = database_now(connection)
            runs.record_progress(connection, self._run_id, self._attempt, told, now)

        self._persist(work)

    def _metrics(self, event: Metrics) -> None:
        self._batch += 1
        batch = self._batch

        def work(connection: Connection) -> None:
            metrics.append(
                connection,
                self._run_id,
                self._attempt,
                batch=batch,
                steps=event.steps,
                values=event.values,
            )

        self._persist(work)

    def _evaluation(self, event: Evaluated) -> None:
        def work(connection: Connection) -> None:
            now = database_now(connection)
            evaluations.record(connection, self._run_id, self._attempt, event.evaluation, now)

        self._persist(work)

    def _keep(self, event: CheckpointSaved | ArtifactSaved, *, name: str, kind: str) -> None:
        """Store the file outside any transaction, then make it the run's in one."""
        path = self._work / event.file
        _verify(path, event)
        key = self._blobs.put(path, run_id=self._run_id, attempt=self._attempt)
        extra: dict[str, Any] = {}
        if isinstance(event, CheckpointSaved):
            extra = {"role": event.role, "epoch": event.epoch, "step": event.step}
            media = "application/octet-stream"
        else:
            media = event.media_type
        file = NewArtifact(name, kind, media, event.sha256, event.size, key, **extra)
        old: list[str] = []

        def work(connection: Connection) -> None:
            now = database_now(connection)
            artifacts.register(connection, self._run_id, self._attempt, file, now=now)
            old[:] = artifacts.discard_superseded(connection, self._run_id, self._attempt)

        self._persist(work)
        take_away(path)
        for superseded in old:
            self._blobs.delete(superseded)


def _verify(path: Path, event: CheckpointSaved | ArtifactSaved) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != event.sha256 or path.stat().st_size != event.size:
        raise Damaged(f"{path.name} is not what was written")


def failure(failure_class: str, code: str, message: str) -> dict[str, Any]:
    """Return a failure as a run's row keeps it."""
    return {"failure_class": failure_class, "code": code, "message": message, "traceback": None}
