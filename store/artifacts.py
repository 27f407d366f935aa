"""What files a run has. The bytes are in :mod:`store.blobs`."""

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import NotFound
from domain.ids import new_id
from store.rows import ArtifactRow, NewArtifact
from store.runs import fence
from store.tables import artifacts, leases

RESUMABLE = ("last", "partial")
"""Roles of checkpoints that a later attempt goes on from."""
_COLUMNS = [c for c in artifacts.c if c.name != "superseded_at"]
_CURRENT = artifacts.c.superseded_at.is_(None)


def register(
    connection: Connection,
    run_id: str,
    attempt: int,
    file: NewArtifact,
    *,
    now: datetime,
) -> ArtifactRow:
    """Make a stored blob the run's current file of that name; the one before is superseded.

    Raises Fenced.
    """
    fence(connection, run_id, attempt)
    connection.execute(
        artifacts.update()
        .where(artifacts.c.run_id == run_id, artifacts.c.name == file.name, _CURRENT)
        .values(superseded_at=now)
    )
    if file.role in RESUMABLE:
        mine = sa.and_(leases.c.run_id == run_id, leases.c.attempt == attempt)
        connection.execute(leases.update().where(mine).values(kept_at=now))
    row = ArtifactRow(
        id=new_id(now), run_id=run_id, attempt=attempt, created_at=now, **asdict(file)
    )
    connection.execute(artifacts.insert().values(asdict(row)))
    return row


def listing(connection: Connection, run_id: str) -> list[ArtifactRow]:
    """Return a run's current files, by name."""
    query = sa.select(*_COLUMNS).where(artifacts.c.run_id == run_id, _CURRENT)
    return [
        ArtifactRow(**row._mapping) for row in connection.execute(query.order_by(artifacts.c.name))
    ]


def get(connection: Connection, run_id: str, artifact_id: str) -> ArtifactRow:
    """Return one file of a run. Raises NotFound."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(artifacts.c.run_id == run_id, artifacts.c.id == artifact_id)
    ).one_or_none()
    if row is None:
        raise NotFound("artifact", artifact_id)
    return ArtifactRow(**row._mapping)


def checkpoint(connection: Connection, run_id: str, role: str) -> ArtifactRow | None:
    """Return the run's current checkpoint of a role (`last` or `best`), if it has one."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(artifacts.c.run_id == run_id, artifacts.c.role == role, _CURRENT)
    ).one_or_none()
    return None if row is None else ArtifactRow(**row._mapping)


def discard_superseded(connection: Connection, run_id: str, attempt: int) -> list[str]:
    """Forget superseded files; return the keys of blobs nobody refers to now. Raises Fenced."""
    fence(connection, run_id, attempt)
    old = sa.and_(artifacts.c.run_id == run_id, artifacts.c.superseded_at.is_not(None))
    keys = set(connection.scalars(sa.select(artifacts.c.key).where(old)))
    connection.execute(artifacts.delete().where(old))
    kept = set(connection.scalars(sa.select(artifacts.c.key).where(artifacts.c.run_id == run_id)))
    return sorted(keys - kept)
