"""Runs: submission, queries, and the one gate every change of state passes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import Fenced, IdempotencyMismatch, InvalidTransition, NotFound
from domain.ids import new_id
from domain.presets import RUN_SPEC
from domain.run_state import RunState, may_move
from domain.schedule import decayed
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec
from store.rows import Page, RunRow, Submission
from store.tables import experiments, idempotency_keys, leases, run_events, runs, users

Spec = TrainSpec | EvaluateSpec | VisualiseSpec
MAX_PAGE = 200


def run_row(row: sa.Row[Any]) -> RunRow:
    """Turn a row of ``runs`` into a value."""
    fields = dict(row._mapping)
    fields["state"] = RunState(fields["state"])
    fields["tags"] = tuple(fields["tags"])
    return RunRow(**fields)


def submit(
    connection: Connection,
    *,
    spec: Spec,
    owner: str,
    now: datetime,
    idempotency: tuple[str, str] | None = None,
    retry_of: str | None = None,
) -> Submission:
    """Queue a run: its row, its first event and, if asked, its idempotency key.

    idempotency: the client's key and the sha256 of the body it came with. The same key and body
    again return the run of the first time.

    Raises IdempotencyMismatch when the key was used with another body.
    """
    if idempotency is not None:
        earlier = _earlier(connection, owner, *idempotency)
        if earlier is not None:
            return Submission(get(connection, earlier), created=False)
    _ensure_experiment(connection, spec.experiment, owner, now)
    run_id = new_id(now)
    connection.execute(runs.insert().values(_first_row(run_id, spec, owner, now, retry_of)))
    reason = f"retry of {retry_of}" if retry_of else "submitted"
    _note(connection, run_id, None, RunState.QUEUED, 0, now=now, reason=reason, actor=owner)
    if idempotency is not None:
        key, body = idempotency
        connection.execute(
            idempotency_keys.insert().values(
                owner=owner, key=key, body_sha256=body, run_id=run_id, created_at=now
            )
        )
    return Submission(get(connection, run_id), created=True)


def _earlier(connection: Connection, owner: str, key: str, body: str) -> str | None:
    if connection.dialect.name == "postgresql":  # two requests with one key take turns
        connection.execute(
            sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"{owner}/{key}", 0)))
        )
    found = connection.execute(
        sa.select(idempotency_keys.c.body_sha256, idempotency_keys.c.run_id).where(
            idempotency_keys.c.owner == owner, idempotency_keys.c.key == key
        )
    ).one_or_none()
    if found is None:
        return None
    if found.body_sha256 != body:
        raise IdempotencyMismatch(key)
    return str(found.run_id)


def _ensure_experiment(connection: Connection, name: str, owner: str, now: datetime) -> None:
    insert = sa.insert(experiments).from_select(
        ["name", "owner", "created_at"],
        sa.select(
            sa.literal(name), sa.literal(owner), sa.literal(now, experiments.c.created_at.type)
        ).where(~sa.exists().where(experiments.c.name == name)),
    )
    try:
        with connection.begin_nested():
            connection.execute(insert)
    except sa.exc.IntegrityError:
        """Another submission made it meanwhile."""


def _first_row(
    run_id: str, spec: Spec, owner: str, now: datetime, retry_of: str | None
) -> dict[str, Any]:
    body = spec.model_dump(mode="json")
    return {
        "id": run_id,
        "owner": owner,
        "experiment": spec.experiment,
        "kind": spec.kind,
        "preset": spec.preset,
        "name": spec.name,
        "tags": list(spec.tags),
        "state": RunState.QUEUED,
        "version": 1,
        "attempt": 0,
        "priority": spec.priority,
        "slot_kind": "gpu" if spec.resources.gpus else "cpu",
        "seed": spec.seed,
        "spec": body,
        "spec_sha256": spec_sha256(body),
        "submitted_at": now,
        "not_before": now,
        "retry_of": retry_of,
    }


def spec_sha256(body: Mapping[str, Any]) -> str:
    """Return the content hash of an expanded spec's JSON."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def get(connection: Connection, run_id: str) -> RunRow:
    """Return a run. Raises NotFound."""
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return run_row(row)


def version(connection: Connection, run_id: str) -> tuple[int, RunState]:
    """Return a run's version and state, cheaply. Raises NotFound."""
    row = connection.execute(
        sa.select(runs.c.version, runs.c.state).where(runs.c.id == run_id)
    ).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return int(row.version), RunState(row.state)


def find(
    connection: Connection,
    *,
    states: Sequence[RunState] = (),
    experiment: str | None = None,
    owner: str | None = None,
    text: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[RunRow]:
    """List runs, newest first, a page at a time.

    text: part of an id, a name or an experiment. cursor: a page's ``next_cursor``.
    """
    query = sa.select(runs).order_by(runs.c.id.desc()).limit(min(limit, MAX_PAGE) + 1)
    if states:
        query = query.where(runs.c.state.in_(states))
    if experiment is not None:
        query = query.where(runs.c.experiment == experiment)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    if text:
        columns = (runs.c.id, runs.c.name, runs.c.experiment, runs.c.preset)
        query = query.where(sa.or_(*(c.icontains(text, autoescape=True) for c in columns)))
    if cursor is not None:
        query = query.where(runs.c.id < cursor)
    rows = [run_row(row) for row in connection.execute(query)]
    items = tuple(rows[: min(limit, MAX_PAGE)])
    return Page(items, items[-1].id if len(rows) > len(items) else None)


def transition(
    connection: Connection,
    run_id: str,
    *,
    to: RunState,
    now: datetime,
    reason: str,
    actor: str = "lab",
    attempt: int | None = None,
    columns: Mapping[str, Any] | None = None,
) -> RunRow:
    """Move a run to another state: the only writer of ``runs.state``.

    A compare-and-set on the version, with its event in the same transaction; leaving the running
    states ends the lease and charges the time to the owner.

    attempt: the attempt that asks, for owners of a lease. columns: further columns, such as
    ``failure`` (failure_class, code, message, traceback).

    Raises NotFound, InvalidTransition, or Fenced if ``attempt`` does not own the run.
    """
    row = _locked(connection, run_id)
    if attempt is not None and (row.attempt != attempt or not row.state.holds_lease):
        raise Fenced(run_id, attempt)
    if not may_move(row.state, to):
        raise InvalidTransition(run_id, row.state, to)
    values: dict[str, Any] = {**(columns or {}), "state": to, "version": row.version + 1}
    if to.is_terminal:
        values["finished_at"] = now
    changed = connection.execute(
        runs.update().where(runs.c.id == run_id, runs.c.version == row.version).values(values)
    )
    if changed.rowcount != 1:
        raise InvalidTransition(run_id, row.state, to)
    if row.state.holds_lease and not to.holds_lease:
        _end_lease(connection, run_id, row.attempt, now, outcome=to)
    after = get(connection, run_id)
    _note(connection, run_id, row.state, to, after.attempt, now=now, reason=reason, actor=actor)
    return after


def _locked(connection: Connection, run_id: str) -> RunRow:
    row = connection.execute(
        sa.select(runs).where(runs.c.id == run_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return run_row(row)


def _end_lease(
    connection: Connection, run_id: str, attempt: int, now: datetime, *, outcome: RunState
) -> None:
    lease = connection.execute(
        sa.select(leases.c.id, leases.c.owner, leases.c.started_at).where(
            leases.c.run_id == run_id, leases.c.attempt == attempt, leases.c.ended_at.is_(None)
        )
    ).one()
    connection.execute(
        leases.update().where(leases.c.id == lease.id).values(ended_at=now, outcome=outcome)
    )
    user = connection.execute(
        sa.select(users.c.usage_seconds, users.c.usage_at).where(users.c.name == lease.owner)
    ).one()
    seconds = max(0.0, (now - lease.started_at).total_seconds())
    usage = decayed(user.usage_seconds, user.usage_at, now) + seconds
    connection.execute(
        users.update()
        .where(users.c.name == lease.owner)
        .values(usage_seconds=usage, usage_at=max(now, user.usage_at))
    )


def _note(
    connection: Connection,
    run_id: str,
    source: RunState | None,
    target: RunState,
    attempt: int,
    *,
    now: datetime,
    reason: str,
    actor: str,
) -> None:
    connection.execute(
        run_events.insert().values(
            run_id=run_id,
            at=now,
            source=source,
            target=target,
            attempt=attempt,
            reason=reason[:500],
            actor=actor,
        )
    )


def request_cancel(connection: Connection, run_id: str, *, now: datetime, actor: str) -> RunRow:
    """Cancel a queued run at once; ask the owner of a running one to stop.

    Asking twice is no error. Raises InvalidTransition on a finished run.
    """
    row = _locked(connection, run_id)
    if row.state is RunState.CANCELLING:
        return row
    queued = row.state is RunState.QUEUED
    to = RunState.CANCELLED if queued else RunState.CANCELLING
    return transition(
        connection, run_id, to=to, now=now, reason=f"cancelled by {actor}", actor=actor
    )


def retry(connection: Connection, run_id: str, *, now: datetime, owner: str) -> RunRow:
    """Queue a new run with the spec of a finished one; the old one stays as it is.

    Raises NotFound, and InvalidTransition when the run has not ended.
    """
    row = get(connection, run_id)
    if not row.state.is_terminal:
        raise InvalidTransition(run_id, row.state, RunState.QUEUED)
    spec = RUN_SPEC.validate_python(row.spec)
    return submit(connection, spec=spec, owner=owner, now=now, retry_of=run_id).run


def fence(connection: Connection, run_id: str, attempt: int) -> None:
    """Take the run's row for this transaction. Raises Fenced unless ``attempt`` owns the run."""
    row = connection.execute(
        sa.select(runs.c.attempt, runs.c.state).where(runs.c.id == run_id).with_for_update()
    ).one_or_none()
    if row is None or row.attempt != attempt or not RunState(row.state).holds_lease:
        raise Fenced(run_id, attempt)


def _update_owned(
    connection: Connection, run_id: str, attempt: int, values: Mapping[str, Any]
) -> None:
    owned = sa.and_(
        runs.c.id == run_id,
        runs.c.attempt == attempt,
        runs.c.state.in_([RunState.RUNNING, RunState.CANCELLING]),
    )
    changed = connection.execute(
        runs.update().where(owned).values(**values, version=runs.c.version + 1)
    )
    if changed.rowcount != 1:
        raise Fenced(run_id, attempt)


def record_progress(
    connection: Connection, run_id: str, attempt: int, progress: Mapping[str, Any], now: datetime
) -> None:
    """Keep how far a run is. Raises Fenced."""
    _update_owned(connection, run_id, attempt, {"progress": dict(progress), "advanced_at": now})


def record_facts(
    connection: Connection, run_id: str, attempt: int, facts: Mapping[str, Any]
) -> None:
    """Keep what the experiment said of its environment. Raises Fenced."""
    _update_owned(connection, run_id, attempt, {"facts": dict(facts)})


def record_summary(
    connection: Connection, run_id: str, attempt: int, summary: Mapping[str, Any]
) -> None:
    """Keep the run's headline figures. Raises Fenced."""
    _update_owned(connection, run_id, attempt, {"summary": dict(summary)})
