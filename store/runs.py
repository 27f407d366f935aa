"""Runs: submission, queries, and the one gate every change of state passes."""

import hashlib
import json
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import stored_spec
from domain.errors import (
    Fenced,
    FieldError,
    IdempotencyMismatch,
    InvalidTransition,
    NotFound,
    QuotaExceeded,
    SpecInvalid,
)
from domain.family import family
from domain.ids import new_id
from domain.run_state import RunState, may_move
from domain.schedule import LEAST_CHARGE, Needs, decayed
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec
from domain.stored_data import stored_data
from store import endings, running_time
from store.rows import Page, RunRow, Submission
from store.tables import (
    UtcDateTime,
    experiments,
    families,
    idempotency_keys,
    leases,
    needs,
    run_dependencies,
    run_events,
    runs,
    users,
)

Spec = TrainSpec | EvaluateSpec | VisualiseSpec
CAME_TO_NOTHING = (RunState.FAILED, RunState.CANCELLED)
MAX_PAGE = 200
REMEMBERED = 8
"""Over about how many runs the average duration of a family moves."""

# Statements of every claim and every end are built once: that takes longer than to run them.
_ONE = sa.select(runs).where(runs.c.id == sa.bindparam("run_id"))
_TAKE_ONE = _ONE.with_for_update()
_MOVE = (
    runs.update()
    .where(runs.c.id == sa.bindparam("run_id"), runs.c.version == sa.bindparam("seen_version"))
    .returning(runs)
)
_START = (
    runs.update()
    .where(
        runs.c.id == sa.bindparam("run_id"),
        runs.c.state == RunState.QUEUED,
        ~runs.c.held,
        runs.c.blockers == 0,
    )
    .values(
        state=RunState.RUNNING,
        version=runs.c.version + 1,
        attempt=runs.c.attempt + 1,
        worker=sa.bindparam("by"),
        reserved=False,
        started_at=sa.func.coalesce(runs.c.started_at, sa.bindparam("now", type_=UtcDateTime)),
        alive_at=sa.bindparam("now", type_=UtcDateTime),
        advanced_at=sa.bindparam("now", type_=UtcDateTime),
    )
    .returning(runs)
)
_NOTE = run_events.insert().inline()
_FOLLOWERS = (
    sa.select(run_dependencies.c.run_id)
    .where(run_dependencies.c.after_id == sa.bindparam("after_id"))
    .order_by(run_dependencies.c.run_id)
)
_TAKE_FOLLOWERS = (
    sa.select(runs).where(runs.c.id.in_(_FOLLOWERS)).order_by(runs.c.id).with_for_update()
)
_END_LEASES = (
    leases.update()
    .where(
        leases.c.run_id == sa.bindparam("of_run"),
        leases.c.attempt == sa.bindparam("of_attempt"),
        leases.c.ended_at.is_(None),
    )
    .returning(leases.c.owner, leases.c.started_at)
)
_USAGE = sa.select(users.c.usage_seconds, users.c.usage_at).where(
    users.c.name == sa.bindparam("owner")
)
# NO KEY UPDATE: rows that refer to the user, such as new runs, need not wait.
_TAKE_USAGE = _USAGE.with_for_update(key_share=True)
_CHARGE = users.update().where(users.c.name == sa.bindparam("owner"))
_LEARN = (
    families.update()
    .where(families.c.name == sa.bindparam("family"))
    .values(
        seconds=families.c.seconds
        + (sa.bindparam("took", type_=sa.Float) - families.c.seconds)
        / sa.case((families.c.runs < REMEMBERED, families.c.runs + 1.0), else_=float(REMEMBERED)),
        runs=families.c.runs + 1,
    )
)


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

    Raises IdempotencyMismatch when the key was used with another body, QuotaExceeded, and
    SpecInvalid when it is to follow a run that is not there or did not succeed.
    """
    if idempotency is not None:
        earlier = _earlier(connection, owner, *idempotency)
        if earlier is not None:
            return Submission(get(connection, earlier), created=False)
    # Runs before users, as `transition` takes them.
    waits_for = _unfinished(connection, spec.after)
    _stay_within_quota(connection, owner)
    _ensure_experiment(connection, spec.experiment, owner, now)
    run_id = new_id(now)
    first = _first_row(run_id, spec, owner, now, retry_of)
    first |= {"needs_id": _needs_id(connection, needs_of(spec)), "blockers": len(waits_for)}
    connection.execute(runs.insert().values(first))
    for after_id in waits_for:
        connection.execute(run_dependencies.insert().values(run_id=run_id, after_id=after_id))
    reason = f"retry of {retry_of}" if retry_of else "submitted"
    note(connection, run_id, None, RunState.QUEUED, 0, now=now, reason=reason, actor=owner)
    if idempotency is not None:
        key, body = idempotency
        connection.execute(
            idempotency_keys.insert().values(
                owner=owner, key=key, body_sha256=body, run_id=run_id, created_at=now
            )
        )
    return Submission(get(connection, run_id), created=True)


def _stay_within_quota(connection: Connection, owner: str) -> None:
    limit = sa.select(users.c.most_queued).where(users.c.name == owner)
    if connection.scalar(limit) is None:
        return
    most = connection.scalar(limit.with_for_update())
    mine = sa.and_(runs.c.owner == owner, runs.c.state == RunState.QUEUED)
    queued = connection.scalar(sa.select(sa.func.count()).select_from(runs).where(mine))
    if most is not None and queued is not None and queued >= most:
        raise QuotaExceeded(
            f"{owner} has {queued} queued runs of {most} allowed: let some start, or cancel some."
        )


def _unfinished(connection: Connection, after: Collection[str]) -> list[str]:
    """Return which runs are still to succeed. Raises SpecInvalid when one never will."""
    named = take(connection, after) if after else {}
    for i, after_id in enumerate(after):
        if after_id not in named:
            raise SpecInvalid([FieldError(f"/after/{i}", str(NotFound("run", after_id)))])
        if (state := named[after_id].state) in CAME_TO_NOTHING:
            told = f"Run {after_id} is {state}; nothing can follow it."
            raise SpecInvalid([FieldError(f"/after/{i}", told)])
    return sorted(i for i, row in named.items() if row.state is not RunState.SUCCEEDED)


def needs_of(spec: Spec) -> Needs:
    """Return what a run asks of one host: devices, cores, and its data."""
    return replace(spec.resources.needs, data=stored_data(spec.data))


def _needs_id(connection: Connection, wanted: Needs) -> int:
    """Return the row of what a run asks of a host, which is made if it is the first to ask."""
    values = asdict(wanted)
    same = sa.and_(*(needs.c[name] == value for name, value in values.items()))
    found = connection.scalar(sa.select(needs.c.id).where(same))
    if found is None:
        with suppress(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(needs.insert().values(values))
        found = connection.scalar(sa.select(needs.c.id).where(same))
    assert found is not None
    return int(found)


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
        "slot_kind": spec.resources.needs.kind,
        "family": family(spec),
        "expected_seconds": None if spec.resources.minutes is None else 60 * spec.resources.minutes,
        "preemptible": spec.resources.preemptible,
        "held": False,
        "losses": 0,
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
    row = connection.execute(_ONE, {"run_id": run_id}).one_or_none()
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
    name: str | None = None,
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
    if name is not None:
        query = query.where(runs.c.name == name)
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
    """Move a run to another state. With :func:`start`, the only writer of ``runs.state``.

    A compare-and-set on the version, with its event in the same transaction; leaving the running
    states ends the lease and charges the time to the owner; ending lets runs that follow it go, or
    fails them with it.

    Rows are taken in one order, which keeps transactions from waiting for each other in a circle:
    runs by id, then leases, then users.

    attempt: the attempt that asks, for owners of a lease. columns: further columns, such as
    ``failure`` (failure_class, code, message, traceback).

    Raises NotFound, InvalidTransition, or Fenced if ``attempt`` does not own the run.
    """
    row = locked(connection, run_id)
    if attempt is not None and (row.attempt != attempt or not row.state.holds_lease):
        raise Fenced(run_id, attempt)
    if not may_move(row.state, to):
        raise InvalidTransition(run_id, row.state, to)
    after = _moved(connection, row, to, now=now, reason=reason, actor=actor, columns=columns)
    if to is RunState.SUCCEEDED:
        _free_followers(connection, run_id, now)
    elif to.is_terminal:
        _fail_followers(connection, after, now)
    if row.state.holds_lease and not to.holds_lease:
        _end_lease(connection, row, now, outcome=to)
    return after


def _moved(
    connection: Connection,
    row: RunRow,
    to: RunState,
    *,
    now: datetime,
    reason: str,
    actor: str,
    columns: Mapping[str, Any] | None,
) -> RunRow:
    """Write a run's next state and its event; return it as it is then."""
    values: dict[str, Any] = {**(columns or {}), "state": to, "version": row.version + 1}
    if to.is_terminal:
        values["finished_at"] = now
    seen = {"run_id": row.id, "seen_version": row.version}
    moved = connection.execute(_MOVE, seen | values).one_or_none()
    if moved is None:
        raise InvalidTransition(row.id, row.state, to)
    after = run_row(moved)
    note(connection, row.id, row.state, to, after.attempt, now=now, reason=reason, actor=actor)
    if not to.holds_lease:
        endings.write(connection, row, after, reason=reason, now=now)
    return after


def start(connection: Connection, run_id: str, *, worker: str, now: datetime) -> RunRow:
    """Begin the next attempt of a run that waits for nothing but its turn.

    One statement for what :func:`transition` takes two: everybody waits for who claims.

    Raises NotFound, or InvalidTransition when it was paused or ended since its turn was planned.
    """
    begin = {"run_id": run_id, "by": worker, "now": now}
    found = connection.execute(_START, begin).one_or_none()
    if found is None:
        raise InvalidTransition(run_id, get(connection, run_id).state, RunState.RUNNING)
    row = run_row(found)
    reason = f"claimed by {worker}"
    source = RunState.QUEUED
    note(connection, run_id, source, row.state, row.attempt, now=now, reason=reason, actor=worker)
    return row


# -- those that follow ------------------------------------------------------------------------


def _free_followers(connection: Connection, run_id: str, now: datetime) -> None:
    """Let the runs that wait for this one wait for one run less."""
    found = connection.execute(_TAKE_FOLLOWERS, {"after_id": run_id})
    taken = [run_row(row) for row in found]
    if not taken:
        return
    ids = [row.id for row in taken]
    connection.execute(runs.update().where(runs.c.id.in_(ids)).values(blockers=runs.c.blockers - 1))
    connection.execute(run_dependencies.delete().where(run_dependencies.c.after_id == run_id))
    told = f"run {run_id}, the last that it was to follow, has succeeded"
    for row in taken:
        if row.state is RunState.QUEUED and row.blockers == 1:
            note(connection, row.id, row.state, row.state, 0, now=now, reason=told, actor="lab")


def _fail_followers(connection: Connection, run: RunRow, now: datetime) -> None:
    """Fail all that wait for a run that came to nothing, down the line, however long it is."""
    line = take_line(connection, [run.id])
    waiting = {i: row for i, row in line.items() if row.state is RunState.QUEUED}
    ended = deque([run])
    while ended:
        before = ended.popleft()
        told = f"run {before.id}, which it was to follow, is {before.state}"
        failure = {"failure_class": "dependency", "code": "dependency-failed", "message": told}
        followers = connection.scalars(_FOLLOWERS, {"after_id": before.id}).all()
        ended += [
            _moved(
                connection,
                waiting.pop(follower),
                RunState.FAILED,
                now=now,
                reason=told,
                actor="lab",
                columns={"failure": failure},
            )
            for follower in followers
            if follower in waiting
        ]


def _line(run_ids: Collection[str]) -> sa.Select[str]:
    """Name runs and all that wait for them, directly or for one another."""
    line = sa.select(runs.c.id).where(runs.c.id.in_(run_ids)).cte("line", recursive=True)
    waits = run_dependencies.join(line, run_dependencies.c.after_id == line.c.id)
    next_in_line = (
        sa.select(runs.c.id)
        .select_from(waits.join(runs, runs.c.id == run_dependencies.c.run_id))
        .where(runs.c.state == RunState.QUEUED)
    )
    return sa.select(line.union(next_in_line).c.id)


# -- whose rows are taken ---------------------------------------------------------------------


def locked(connection: Connection, run_id: str) -> RunRow:
    """Take a run's row for this transaction. Raises NotFound."""
    row = connection.execute(_TAKE_ONE, {"run_id": run_id}).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return run_row(row)


def take(connection: Connection, which: Collection[str] | sa.Select[str]) -> dict[str, RunRow]:
    """Take the rows of several runs for this transaction, by id as everybody does.

    Returns those that there are, as they are once they are taken.
    """
    query = sa.select(runs).where(runs.c.id.in_(which)).order_by(runs.c.id).with_for_update()
    return {row.id: run_row(row) for row in connection.execute(query)}


def take_line(connection: Connection, run_ids: Collection[str]) -> dict[str, RunRow]:
    """Take runs and all that wait for them, for a transaction that may fail them all.

    Nobody comes to follow a run that is taken; who did so before it was is taken with them.
    """
    known = 0
    while len(taken := take(connection, _line(run_ids))) > known:
        known = len(taken)
    return taken


def take_free(connection: Connection, run_id: str) -> bool:
    """Take a run and all that wait for it; False, without waiting, if others hold one of them."""
    free = sa.select(runs.c.id).where(runs.c.id.in_(_line([run_id])))
    taken = set(connection.scalars(free.with_for_update(skip_locked=True)))
    return taken == set(connection.scalars(_line([run_id])))


# -- what an attempt leaves -------------------------------------------------------------------


def _end_lease(connection: Connection, run: RunRow, now: datetime, *, outcome: RunState) -> None:
    """End an attempt's leases and charge its owner for each slot."""
    mine = {"of_run": run.id, "of_attempt": run.attempt}
    ended = connection.execute(_END_LEASES, mine | {"ended_at": now, "outcome": outcome}).all()
    lease = ended[0]
    seconds = (now - lease.started_at).total_seconds()
    if outcome is RunState.SUCCEEDED:
        _remember_duration(connection, run, seconds, now)
    _charge(connection, lease.owner, max(LEAST_CHARGE, seconds) * len(ended), now)


def _charge(connection: Connection, owner: str, seconds: float, now: datetime) -> None:
    """Add to what an owner has used; attempts of one owner that end at once take turns."""
    user = connection.execute(_TAKE_USAGE, {"owner": owner}).one()
    usage = decayed(user.usage_seconds, user.usage_at, now) + seconds
    values = {"usage_seconds": usage, "usage_at": max(now, user.usage_at)}
    connection.execute(_CHARGE, {"owner": owner} | values)


def _remember_duration(connection: Connection, run: RunRow, seconds: float, now: datetime) -> None:
    """Move the average of a run's family towards what it took in all its attempts.

    seconds: what the last of them took.
    """
    took = seconds
    if run.attempt > 1:  # almost no run has several, and a query costs every end
        took = running_time.took(connection, [run.id], now)[run.id]
    if connection.execute(_LEARN, {"family": run.family, "took": took}).rowcount == 0:
        with suppress(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(families.insert().values(name=run.family, seconds=took, runs=1))


def note(
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
    """Add a line to a run's history."""
    line = {
        "run_id": run_id,
        "at": now,
        "source": source,
        "target": target,
        "attempt": attempt,
        "reason": reason[:500],
        "actor": actor,
    }
    connection.execute(_NOTE, line)


def request_cancel(connection: Connection, run_id: str, *, now: datetime, actor: str) -> RunRow:
    """Cancel a queued run at once; ask the owner of a running one to stop.

    Asking twice is no error. Raises InvalidTransition on a finished run.
    """
    row = locked(connection, run_id)
    if row.state is RunState.CANCELLING:
        return row
    queued = row.state is RunState.QUEUED
    to = RunState.CANCELLED if queued else RunState.CANCELLING
    if not queued:
        endings.say(connection, row, f"asked by {actor} to stop", now=now)
    return transition(
        connection, run_id, to=to, now=now, reason=f"cancelled by {actor}", actor=actor
    )


def retry(connection: Connection, run_id: str, *, now: datetime, owner: str) -> RunRow:
    """Queue a new run with the spec of a finished one; the old one stays as it is.

    Where it was to follow runs that came to nothing, it follows their retries.

    Raises NotFound, InvalidTransition when the run has not ended, and SpecInvalid when one that it
    follows is to be retried first.
    """
    row = get(connection, run_id)
    if not row.state.is_terminal:
        raise InvalidTransition(run_id, row.state, RunState.QUEUED)
    followed = row.spec.get("after", ())
    instead = {old: _stand_in(connection, old, i) for i, old in enumerate(followed)}
    spec = stored_spec.read(_following(row.spec, instead))
    # The new row refers to the old one: taken here, before `submit` takes the user.
    take(connection, {run_id, *spec.after})
    return submit(connection, spec=spec, owner=owner, now=now, retry_of=run_id).run


def _stand_in(connection: Connection, run_id: str, index: int) -> str:
    """Return the run itself or, if it came to nothing, the newest retry of it that may succeed.

    index: where it stands in `after`. Raises SpecInvalid when there is no such retry.
    """
    line = sa.select(runs.c.id).where(runs.c.id == run_id).cte("line", recursive=True)
    again = line.union(sa.select(runs.c.id).join(line, runs.c.retry_of == line.c.id))
    query = sa.select(runs.c.id, runs.c.state).join(again, again.c.id == runs.c.id)
    found = connection.execute(query.order_by(runs.c.id.desc())).all()
    alive = [row.id for row in found if row.state not in CAME_TO_NOTHING]
    if run_id in alive:
        return run_id
    if not alive:
        newest = found[0]
        told = f"Run {newest.id} is {newest.state}: retry run {newest.id} first, then this one."
        raise SpecInvalid([FieldError(f"/after/{index}", told)])
    return str(alive[0])


def _following(spec: Mapping[str, Any], instead: Mapping[str, str]) -> dict[str, Any]:
    """Return a spec that follows other runs, and starts from their weights where it names them."""

    def renamed(part: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(part, list):
            return [renamed(one) for one in part]
        if not isinstance(part, dict):
            return part
        source = {"run": instead[part["run"]]} if part.get("run") in instead else {}
        return {name: renamed(value) for name, value in part.items()} | source

    after = list(dict.fromkeys(instead.values()))
    return {name: renamed(value) for name, value in spec.items()} | {"after": after}


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
