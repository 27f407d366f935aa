"""What a request may do to runs, for the API and the dashboard alike."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from sqlalchemy import Connection

from api.auth import require_own
from api.lab import Lab
from domain import stored_spec
from domain.errors import FieldError, NotFound, SpecInvalid, VersionMismatch
from domain.ids import ID_PATTERN
from domain.presets import OWN_SOURCE, Uploaded, expand, named_sources
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec, Weights
from store import artifacts, checkpoints, queue, runs
from store.engine import database_now
from store.rows import RunRow, User

ROLES = get_args(Weights)
"""Which checkpoints of a run others may start from."""


def expanded(
    connection: Connection, raw: Mapping[str, Any]
) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Complete and validate a submission, reading whatever weights it names.

    Raises SpecInvalid.
    """
    after = raw.get("after")
    known = {
        pointer: _known(connection, named, pointer, after if isinstance(after, list) else ())
        for pointer, named in named_sources(raw)
    }
    found = {pointer: facts for pointer, facts in known.items() if facts is not None}
    own = found.pop(OWN_SOURCE, None)
    return expand(raw, source=own, others=found)


def _known(
    connection: Connection, named: Mapping[str, Any], pointer: str, after: Collection[str]
) -> TrainSpec | Uploaded | None:
    """Return what is known of the weights named at ``pointer``, None where none are.

    after: ids of runs that will have succeeded by then.

    Raises SpecInvalid when there are no such weights.
    """
    if isinstance(run_id := named.get("run"), str):
        weights, later = named.get("weights", "best"), run_id in after
        return _trained(connection, run_id, weights, f"{pointer}/run", later=later)
    if isinstance(checkpoint_id := named.get("checkpoint"), str):
        return _uploaded(connection, checkpoint_id, f"{pointer}/checkpoint")
    return None


def _uploaded(connection: Connection, checkpoint_id: str, pointer: str) -> Uploaded:
    """Return what an uploaded checkpoint is. Raises SpecInvalid when there is none."""
    try:
        row = checkpoints.get(connection, _checked("checkpoint", checkpoint_id))
    except NotFound as error:
        raise SpecInvalid([FieldError(pointer, str(error))]) from None
    return Uploaded(row.model, row.channels, row.classes)


def _trained(
    connection: Connection, run_id: str, weights: object, pointer: str, *, later: bool
) -> TrainSpec:
    """Return the spec behind a checkpoint.

    later: whether the run is waited for, and may be without one yet.

    Raises SpecInvalid when there is none.
    """
    try:
        row = find(connection, run_id)
    except NotFound as error:
        raise SpecInvalid([FieldError(pointer, str(error))]) from None
    if row.kind != "train":
        told = f"Run {run_id} is of kind `{row.kind}`; name a training run."
        raise SpecInvalid([FieldError(pointer, told)])
    kept = [role for role in ROLES if artifacts.checkpoint(connection, run_id, role) is not None]
    if later and not row.state.is_terminal:
        return _source_spec(row, pointer)
    if weights in ROLES and weights not in kept:
        have = f"it has {' and '.join(kept)}" if kept else "it has none yet"
        hint = "" if row.state.is_terminal else " Name it in `after` to wait for it."
        told = f"Run {run_id} ({row.state}) has no {weights!r} checkpoint; {have}.{hint}"
        raise SpecInvalid([FieldError(pointer, told)])
    return _source_spec(row, pointer)


def _source_spec(row: RunRow, pointer: str) -> TrainSpec:
    try:
        return stored_spec.read_source(row.spec)
    except SpecInvalid as error:
        raise SpecInvalid([FieldError(pointer, f"Run {row.id} says {error}")]) from None


def find(connection: Connection, run_id: str) -> RunRow:
    """Return a run by whatever text somebody gave as its id. Raises NotFound."""
    return runs.get(connection, _checked("run", run_id))


def _checked(what: str, identifier: str) -> str:
    """Return an id that is one. Raises NotFound."""
    # PostgreSQL refuses a NUL inside a text with an error of its own: ids are checked first.
    if not re.fullmatch(ID_PATTERN, identifier):
        raise NotFound(what, identifier)
    return identifier


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
        asked = runs.request_cancel(connection, run_id, now=now, actor=user.name)
    lab.doorbell.ring(run_id)
    return asked


def hold(lab: Lab, user: User, run_id: str, *, held: bool) -> RunRow:
    """Pause a run, or let it go on.

    Raises NotFound, NotPermitted, InvalidTransition.
    """
    with lab.writing() as connection:
        require_own(user, runs.get(connection, run_id))
        now = database_now(connection)
        run = queue.hold(connection, run_id, held=held, now=now, actor=user.name)
    lab.doorbell.ring(run_id)
    return run


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
