"""News of a run as it happens: long-poll and server-sent events.

Waiting is done in coroutines; each look at the database borrows a thread of the request pool for a
moment, so a hundred open streams hold none.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from api.etags import etag, etag_matches
from api.lab import Lab
from api.models import Event, LogLine, Series, spell
from api.shown import shown
from store import history, logs, metrics, runs
from store.rows import LogRow, SeriesSummary

FIRST_LINES = 200
BATCH = 500


@dataclass(frozen=True)
class Cursor:
    """How far a reader is; written into every event's id, so that a stream resumes exactly."""

    event: int = 0
    line: int | None = None
    """None: not yet anywhere; the tail comes first."""
    version: int = 0
    points: int = 0

    def __str__(self) -> str:
        """Return the form that goes over the wire."""
        line = "" if self.line is None else self.line
        return f"{self.event}.{line}.{self.version}.{self.points}"

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read the wire form; anything else starts from the beginning."""
        parts = (text or "").split(".")
        known = len(parts) == 4 and all(p.isascii() and p.isdigit() for p in parts if p)
        if not known or any(len(p) > 18 for p in parts):
            return cls()
        event, line, version, points = parts
        return cls(
            int(event or 0), int(line) if line else None, int(version or 0), int(points or 0)
        )


@dataclass(frozen=True)
class Message:
    """One server-sent event, and where its reader is afterwards."""

    name: str
    data: str
    cursor: Cursor

    def encode(self) -> bytes:
        """Return its bytes. JSON text holds no line break, so one data line is enough."""
        return f"id: {self.cursor}\nevent: {self.name}\ndata: {self.data}\n\n".encode()


async def changed(lab: Lab, run_id: str, known: str | None, wait: float) -> None:
    """Return when the run's version is another than the known one, when it has ended, or in time.

    known: the If-None-Match header; None stands for the present version. wait: at most so many
    seconds.

    Raises NotFound.
    """
    deadline = time.monotonic() + wait
    while True:
        version, state = await lab.look(runs.version, run_id)
        known = etag(version) if known is None else known
        left = deadline - time.monotonic()
        if not etag_matches(known, version) or state.is_terminal or left <= 0:
            return
        await asyncio.sleep(min(left, lab.settings.watch_seconds))


async def stream(lab: Lab, run_id: str, cursor: Cursor) -> AsyncIterator[bytes]:
    """Yield what happens to a run until it has ended and everything is said.

    Comments keep a silent stream open. It ends after ``stream_seconds`` too; a client resumes with
    the last id it has.
    """
    started = spoke = time.monotonic()
    yield b"retry: 1000\n\n"
    while True:
        messages = await lab.look(_news, run_id, cursor)
        for message in messages:
            yield message.encode()
            cursor, spoke = message.cursor, time.monotonic()
        now = time.monotonic()
        if (messages and messages[-1].name == "end") or now - started > lab.settings.stream_seconds:
            return
        if now - spoke > lab.settings.heartbeat_seconds:
            yield b": still here\n\n"
            spoke = now
        if not messages:
            await asyncio.sleep(lab.settings.watch_seconds)


def _news(connection: Connection, run_id: str, cursor: Cursor) -> list[Message]:
    """Return what is new, at most a batch of it. ``end`` comes alone, when nothing else is new."""
    # The run is read first: if it has ended here, everything it said is in the queries below.
    run = runs.get(connection, run_id)
    told: list[Message] = []

    def tell(name: str, data: str, after: Cursor) -> Cursor:
        told.append(Message(name, data, after))
        return after

    for line in _new_lines(connection, run_id, cursor):
        data = LogLine.model_validate(line).model_dump_json()
        cursor = tell("log", data, replace(cursor, line=line.id))
    series = metrics.summary(connection, run_id)
    points = sum(one.count for one in series)
    if points != cursor.points:
        cursor = tell("metrics", _by_name(series), replace(cursor, points=points))
    for event in history.events(connection, run_id, after=cursor.event, limit=BATCH):
        data = Event.model_validate(event).model_dump_json()
        cursor = tell("state", data, replace(cursor, event=event.id))
    if run.version != cursor.version:
        data = json.dumps(spell(run.progress or {}))
        cursor = tell("progress", data, replace(cursor, version=run.version))
    if not told and run.state.is_terminal:
        tell("end", shown(connection, [run])[0].model_dump_json(), cursor)
    return told


def _new_lines(connection: Connection, run_id: str, cursor: Cursor) -> list[LogRow]:
    if cursor.line is None:
        return logs.tail(connection, run_id, limit=FIRST_LINES)
    return logs.tail(connection, run_id, after=cursor.line, limit=BATCH)


def _by_name(series: Sequence[SeriesSummary]) -> str:
    shaped = {one.name: Series.model_validate(one).model_dump(mode="json") for one in series}
    return json.dumps(spell(shaped))
