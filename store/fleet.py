"""Workers and their slots: what they offer, what occupies it, what is given to nobody and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import NotFound
from store.rows import SlotRow, SlotSpec, SlotView, Vitals, WorkerRow
from store.tables import leases, slots, workers

WORKER_SILENT = timedelta(seconds=60)
SUSPECT_AFTER = 3
"""Attempts lost one after the other on a slot, of at least two users, that put it in quarantine."""
LIVE = leases.c.ended_at.is_(None)
SIGNED_OFF = 0
"""The process id of a worker that has ended and said so."""


def register_worker(
    connection: Connection,
    *,
    name: str,
    host: str,
    pid: int,
    offered: Sequence[SlotSpec],
    now: datetime,
    cores: int = 0,
) -> tuple[SlotRow, ...]:
    """Announce a worker and the slots of its host; return them as stored.

    A slot of that name from before is taken up again, one no longer offered is withdrawn. A worker
    that was drained is so no more.
    """
    values = {
        "host": host,
        "pid": pid,
        "started_at": now,
        "seen_at": now,
        "cores": cores,
        "draining": False,
    }
    known = connection.scalar(sa.select(workers.c.name).where(workers.c.name == name))
    if known is None:
        connection.execute(workers.insert().values(name=name, **values))
    else:
        connection.execute(workers.update().where(workers.c.name == name).values(values))
    connection.execute(slots.update().where(slots.c.worker == name).values(offered=False))
    for slot in offered:
        _offer(connection, name, slot)
    return slots_of(connection, name)


def _offer(connection: Connection, worker: str, slot: SlotSpec) -> None:
    same = sa.and_(
        slots.c.worker == worker, slots.c.kind == slot.kind, slots.c.ordinal == slot.ordinal
    )
    values = {
        "device_name": slot.device_name,
        "queue": slot.queue or slot.kind,
        "memory": slot.memory,
        "offered": True,
    }
    if connection.execute(slots.update().where(same).values(values)).rowcount == 0:
        connection.execute(
            slots.insert().values(
                worker=worker, kind=slot.kind, ordinal=slot.ordinal, unconfirmed=False, **values
            )
        )


def slots_of(connection: Connection, worker: str) -> tuple[SlotRow, ...]:
    """Return the slots a worker offers."""
    rows = connection.execute(
        sa.select(slots).where(slots.c.worker == worker, slots.c.offered).order_by(slots.c.id)
    )
    return tuple(slot_row(row) for row in rows)


def slot_row(row: sa.Row[Any]) -> SlotRow:
    """Turn a row of ``slots`` into a value."""
    return SlotRow(row.id, row.worker, row.kind, row.ordinal, row.device_name)


def worker_alive(
    connection: Connection,
    name: str,
    *,
    busy_slots: Collection[int],
    now: datetime,
    pid: int | None = None,
    foreign: Mapping[int, str] | None = None,
    vitals: Vitals | None = None,
) -> bool:
    """Say that a worker lives, and on which slots a process of its is left.

    Slots whose lease was lost become free here and nowhere else. foreign: what other programs do on
    GPUs, by ordinal; vitals: what it sees of its host; None if that was not looked at.

    pid: the process that says so; None: not compared. Returns False, having written nothing, when
    another process has the name by now: it is the one that knows what is left on the slots.
    """
    told = asdict(vitals) if vitals else {}
    itself = workers.c.name == name
    if pid is not None:
        itself &= workers.c.pid == pid
    changed = connection.execute(workers.update().where(itself).values(seen_at=now, **told))
    if changed.rowcount != 1:
        return False
    _confirm(connection, name, busy_slots)
    if foreign is not None:
        _tell_foreign_use(connection, name, foreign)
    return True


def note_rival(connection: Connection, name: str, *, host: str, now: datetime) -> None:
    """Remember that another worker of this name, on ``host``, stands by until this one ends."""
    mine = workers.c.name == name
    connection.execute(workers.update().where(mine).values(rival=host[:255], rival_at=now))


def _confirm(connection: Connection, name: str, busy_slots: Collection[int]) -> None:
    mine = slots.c.worker == name
    connection.execute(
        slots.update()
        .where(mine, slots.c.unconfirmed, slots.c.id.not_in(busy_slots))
        .values(unconfirmed=False)
    )


def _tell_foreign_use(connection: Connection, name: str, foreign: Mapping[int, str]) -> None:
    gpus = sa.and_(slots.c.worker == name, slots.c.kind == "gpu")
    connection.execute(
        slots.update()
        .where(gpus, slots.c.foreign_use.is_not(None), slots.c.ordinal.not_in(foreign))
        .values(foreign_use=None)
    )
    for ordinal, use in foreign.items():
        connection.execute(
            slots.update().where(gpus, slots.c.ordinal == ordinal).values(foreign_use=use[:200])
        )


def sign_off(connection: Connection, name: str, pid: int) -> None:
    """Say that the worker of that process id has ended; not if another has its name by now."""
    mine = sa.and_(workers.c.name == name, workers.c.pid == pid)
    connection.execute(workers.update().where(mine).values(pid=SIGNED_OFF))


def attempts_on(connection: Connection, worker: str, names: Collection[str]) -> set[str]:
    """Return which of these attempts, named ``<run>-<attempt>``, ``worker`` had and has no more.

    One that holds a live lease is at work, whoever of that name supervises it.
    """
    ids = {name.rpartition("-")[0] for name in names}
    query = sa.select(leases.c.run_id, leases.c.attempt).where(
        leases.c.worker == worker, leases.c.run_id.in_(ids), sa.not_(LIVE)
    )
    return {f"{row.run_id}-{row.attempt}" for row in connection.execute(query)} & set(names)


def drain(connection: Connection, name: str, *, draining: bool) -> None:
    """Give a worker nothing more, or work again. Raises NotFound."""
    changed = connection.execute(
        workers.update().where(workers.c.name == name).values(draining=draining)
    )
    if changed.rowcount != 1:
        raise NotFound("worker", name)


def suspect(connection: Connection, slot_id: int) -> str | None:
    """Put a slot in quarantine if too many attempts of different users were lost on it in a row.

    Returns the reason if it was. What started before an administrator released it counts no more.
    """
    released = slots.c.released_at
    last = connection.execute(
        sa.select(leases.c.outcome, leases.c.owner)
        .join(slots, slots.c.id == leases.c.slot_id)
        .where(leases.c.slot_id == slot_id, leases.c.ended_at.is_not(None))
        .where(released.is_(None) | (leases.c.started_at > released))
        .order_by(leases.c.id.desc())
        .limit(SUSPECT_AFTER)
    ).all()
    owners = sorted({row.owner for row in last})
    if len(last) < SUSPECT_AFTER or len(owners) < 2 or any(r.outcome != "lost" for r in last):
        return None
    reason = f"the last {len(last)} attempts were lost here, of {' and '.join(owners)}"
    connection.execute(
        slots.update()
        .where(slots.c.id == slot_id, slots.c.quarantine.is_(None))
        .values(quarantine=reason[:500])
    )
    return reason


def release(connection: Connection, worker: str, kind: str, ordinal: int, *, now: datetime) -> None:
    """End a slot's quarantine; it is judged by what starts after ``now``. Raises NotFound."""
    mine = sa.and_(
        slots.c.worker == worker, slots.c.kind == kind, slots.c.ordinal == ordinal, slots.c.offered
    )
    released = slots.update().where(mine).values(quarantine=None, released_at=now)
    if connection.execute(released).rowcount != 1:
        raise NotFound("slot", f"{worker}/{kind}/{ordinal}")


def all_workers(connection: Connection) -> tuple[WorkerRow, ...]:
    """Return every worker with its offered slots and what occupies them."""
    rows = connection.execute(
        sa.select(slots, leases.c.run_id)
        .select_from(slots.outerjoin(leases, sa.and_(leases.c.slot_id == slots.c.id, LIVE)))
        .where(slots.c.offered)
        .order_by(slots.c.id)
    )
    by_worker: dict[str, list[SlotView]] = {}
    for row in rows:
        view = SlotView(
            kind=row.kind,
            ordinal=row.ordinal,
            device_name=row.device_name,
            queue=row.queue,
            memory=row.memory,
            run_id=row.run_id,
            unconfirmed=row.unconfirmed,
            quarantine=row.quarantine,
            foreign_use=row.foreign_use,
        )
        by_worker.setdefault(row.worker, []).append(view)
    return tuple(
        WorkerRow(
            name=row.name,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            seen_at=row.seen_at,
            cores=row.cores,
            draining=row.draining,
            datasets=None if row.datasets is None else tuple(row.datasets),
            slots=tuple(by_worker.get(row.name, ())),
        )
        for row in connection.execute(sa.select(workers).order_by(workers.c.name))
    )
