"""What a request may do to runs, for the API and the dashboard alike."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection

from api.auth import require_own
from api.lab import Lab
from domain.errors import FieldError, NotFound, SpecInvalid, VersionMismatch
from domain.ids import ID_PATTERN
from domain.presets import Uploaded, expand, source_id
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec
from store import artifacts, checkpoints, runs
from store.engine import database_now
from store.rows import RunRow, User


def expanded(
    connection: Connection, raw: Mapping[str, Any]
) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Complete and validate a submission, reading what it starts from, if anything.

    Raises SpecInvalid.
    """
    if raw.get("kind", "train") == "train":
        return expand(raw)
    if (run_id := source_id(raw, "run")) is not None:
        weights = raw["source"].get("weights", "best")
        return expand(raw, source=_source(connection, run_id, weights))
    if (checkpoint_id := source_id(raw, "checkpoint")) is not None:
        return expand(raw, source=_uploaded(connection, checkpoint_id))
    return expand(raw)


def _uploaded(connection: Connection, checkpoint_id: str) -> Uploaded:
    """Return what an uploaded checkpoint is. Raises SpecInvalid when there is none."""
    try:
        row = checkpoints.get(connection, _checked("checkpoint", checkpoint_id))
    except NotFound as error:
        raise SpecInvalid([FieldError("/source/checkpoint", str(error))]) from None
    return Uploaded(row.model, row.channels, row.classes)


def _source(connection: Connection, run_id: str, weights: object) -> TrainSpec:
    """Return the spec behind a checkpoint. Raises SpecInvalid when there is none."""
    try:
        row = find(connection, run_id)
    except NotFound as error:
        raise _wrong_source(str(error)) from None
    if row.kind != "train":
        raise _wrong_source(f"Run {run_id} is of kind `{row.kind}`; name a training run.")
    if isinstance(weights, str) and artifacts.checkpoint(connection, run_id, weights) is None:
        kept = [r for r in ("best", "last") if artifacts.checkpoint(connection, run_id, r)]
        have = f"it has {' and '.join(kept)}" if kept else "it has none yet"
        raise _wrong_source(f"Run {run_id} ({row.state}) has no {weights!r} checkpoint; {have}.")
    return TrainSpec.model_validate(row.spec)


def find(connection: Connection, run_id: str) -> RunRow:
    """Return a run by whatever text somebody gave as its id. Raises NotFound."""
    return runs.get(connection, _checked("run", run_id))


def _checked(what: str, identifier: str) -> str:
    """Return an id that is one. Raises NotFound."""
    # PostgreSQL refuses a NUL inside a text with an error of its own: ids are checked first.
    if not re.fullmatch(ID_PATTERN, identifier):
        raise NotFound(what, identifier)
    return identifier


def _wrong_source(detail: str) -> SpecInvalid:
    return SpecInvalid([FieldError("/source/run", detail)])


def submit(lab: Lab, user: User, raw: Mapping[str, Any], key: str | None = None) -> RunRow:
    """Queue a run and wake a worker up.

    key: the client's Idempotency-Key; the same key and body return the first run again.

    Raises SpecInvalid, IdempotencyMismatch.
    """
    idempotency = None if key is None else (key, _sha256(raw))
    with lab.writing() as connection:
        run = runs.submit(
            connection,
            spec=expanded(connection, raw),
            owner=user.name,
            now=database_now(connection),
            idempotency=idempotency,
        ).run
    lab.doorbell.ring()
    return run


def _sha256(raw: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def cancel(lab: Lab, user: User, run_id: str, *, versions: Collection[int] | None = None) -> RunRow:
    """Cancel a queued run, or ask a running one to stop.

    versions: only if the run is at one of these versions; None for any.

    Raises NotFound, NotPermitted, VersionMismatch, InvalidTransition.
    """
    with lab.writing() as connection:
        run = runs.get(connection, run_id)
        require_own(user, run)
        if versions is not None and run.version not in versions:
            raise VersionMismatch(f"Run {run_id} is at version {run.version} now.")
        now = database_now(connection)
        return runs.request_cancel(connection, run_id, now=now, actor=user.name)


def retry(lab: Lab, user: User, run_id: str) -> RunRow:
    """Queue a new run with the spec of a finished one and wake a worker up.

    Raises NotFound, NotPermitted, InvalidTransition.
    """
    with lab.writing() as connection:
        require_own(user, runs.get(connection, run_id))
        now = database_now(connection)
        run = runs.retry(connection, run_id, now=now, owner=user.name)
    lab.doorbell.ring()
    return run
