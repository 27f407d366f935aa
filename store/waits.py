"""What queued runs wait for that is not their turn: told at submission, in lists and on pages.

One look for many runs. Which of those that could start comes first is the planner's matter: told
by :mod:`store.positions`, which takes the words from here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from domain import schedule
from domain.run_state import RunState
from domain.schedule import Host, Needs, Why
from domain.stored_data import missing
from store import snapshots
from store.fleet import LIVE
from store.rows import RunRow, Wait
from store.tables import leases, needs, run_dependencies, runs

STATES: Mapping[Why, str] = {
    "no-worker": "no such device",
    "impossible": "no such device",
    "data-missing": "data missing",
    "set-aside": "device set aside",
}
"""What a list says in place of `queued`."""
NAMED = 3
"""How many of many runs are named."""


def waits(connection: Connection, rows: Sequence[RunRow], now: datetime) -> Mapping[str, Wait]:
    """Return what each of these runs waits for, by id; nothing for one that waits for its turn."""
    queued = [row for row in rows if row.state is RunState.QUEUED]
    followed = _followed(connection, [row.id for row in queued if row.blockers and not row.held])
    told = {row.id: _by_itself(row, followed.get(row.id, ()), now) for row in queued}
    ready = [row for row in queued if told[row.id] is None]
    told |= _without_host(connection, ready, now) if ready else {}
    return {run_id: wait for run_id, wait in told.items() if wait is not None}


def wait_of(connection: Connection, run: RunRow, now: datetime) -> Wait | None:
    """Return what one run waits for; None if for nothing or for its turn."""
    return waits(connection, [run], now).get(run.id)


def _by_itself(run: RunRow, followed: Sequence[tuple[str, str]], now: datetime) -> Wait | None:
    if run.held:
        return Wait("paused", "paused", f"`part resume {run.id}`")
    if run.blockers:
        return _after(followed)
    if run.not_before > now:
        told = "its backoff after a lost attempt"
        return Wait("backoff", "backs off", told)
    return None


def _after(followed: Sequence[tuple[str, str]]) -> Wait:
    """Name the runs it follows. followed: id, and name and state in words, of each."""
    one = len(followed) == 1
    state = f"waits for {followed[0][0]}" if one else f"waits for {len(followed)} runs"
    named = ", ".join(f"{run_id} ({about})" for run_id, about in followed[:NAMED])
    more = f" and {len(followed) - NAMED} more" if len(followed) > NAMED else ""
    return Wait("after", state, f"run{'' if one else 's'} {named}{more} to succeed")


def _followed(
    connection: Connection, run_ids: Sequence[str]
) -> Mapping[str, Sequence[tuple[str, str]]]:
    if not run_ids:
        return {}
    query = (
        sa.select(run_dependencies.c.run_id, runs.c.id, runs.c.name, runs.c.state, runs.c.held)
        .join(runs, runs.c.id == run_dependencies.c.after_id)
        .where(run_dependencies.c.run_id.in_(run_ids))
        .order_by(runs.c.id)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for row in connection.execute(query):
        state = "paused" if row.held and row.state == RunState.QUEUED else row.state
        about = f"{row.name}, {state}" if row.name else state
        found.setdefault(row.run_id, []).append((row.id, about))
    return found


def _without_host(
    connection: Connection, ready: Sequence[RunRow], now: datetime
) -> dict[str, Wait | None]:
    """Return what no living host has of what these runs ask."""
    hosts, shut = snapshots.hosts_of(connection, now)
    lost = shut - set(connection.scalars(sa.select(leases.c.slot_id).where(LIVE)))
    asked = sa.select(needs).where(needs.c.id.in_({row.needs_id for row in ready}))
    told = {
        row.id: _nowhere(hosts, lost, snapshots.needs_of(row)) for row in connection.execute(asked)
    }
    return {row.id: told[row.needs_id] for row in ready}


def _nowhere(hosts: Sequence[Host], lost: frozenset[int], wanted: Needs) -> Wait | None:
    if schedule.could_run(hosts, wanted, without=lost):
        return None
    why = schedule.nowhere(hosts, wanted)
    return Wait(why, STATES[why] if hosts else "no worker", nowhere(why, wanted))


def nowhere(why: Why, wanted: Needs) -> str:
    """Say what a run waits for that no host can give it. why: one of STATES."""
    wants = described(wanted)
    match why:
        case "no-worker":
            return f"a worker with {wants}: none is alive"
        case "data-missing":
            return missing(wanted.data)
        case "set-aside":
            return f"{wants}: its host has that, but gives it to nobody; `part doctor` says why"
        case _:
            return f"{wants} on one host: no host has that; ask for less, or for another queue"


def described(wanted: Needs) -> str:
    """Say in words what a run asks of a host."""
    many = f"{wanted.slots} {wanted.kind} slot{'s' if wanted.slots > 1 else ''}"
    extra = [
        f"{wanted.memory >> 30} GiB" if wanted.memory else "",
        f"like {wanted.model!r}" if wanted.model else "",
        f"{wanted.cores} cores" if wanted.cores else "",
        f"in queue {wanted.queue}" if wanted.queue != wanted.kind else "",
        f"with {wanted.data}" if wanted.data else "",
    ]
    some = ", ".join(part for part in extra if part)
    return f"{many} ({some})" if some else many
