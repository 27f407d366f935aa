"""Uploaded weights: looked through before anything is kept."""

import hashlib
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import BinaryIO

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.architectures import COUNTER, Fit, fit
from domain.errors import CheckpointRefused, NotFound
from domain.ids import new_id
from domain.tensor_file import TensorEntry, read_header
from store.rows import CheckpointRow
from store.tables import checkpoints

FOLDER = "uploads"
"""Where the artifact store keeps them."""
BLOCK = 4 << 20
VARIANCE = "running_var"


@dataclass(frozen=True)
class Inspected:
    """What a sound file holds."""

    fit: Fit
    sha256: str
    size: int


def inspect(stream: BinaryIO, model: str) -> Inspected:
    """Look an uploaded file through; nothing of it is run, and little of it held at a time.

    Raises CheckpointRefused: it is no safetensors file, claims what it does not hold, is of another
    network than ``model``, or has values no network works with.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    found = fit(model, read_header(stream, size))
    for entry in found.tensors:
        _check_values(stream, entry)
    return Inspected(found, _sha256(stream), size)


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _check_values(stream: BinaryIO, entry: TensorEntry) -> None:
    if entry.name.endswith(COUNTER):
        return
    least = 0.0 if entry.name.endswith((VARIANCE, "normalise.std")) else -math.inf
    for values in _values(stream, entry):
        # A sum of floats in double precision is finite where all of them are: none overflows it.
        if not math.isfinite(sum(values)):
            raise CheckpointRefused(f"{entry.name} holds NaN or infinity")
        if min(values) < least:
            raise CheckpointRefused(f"{entry.name} is negative somewhere")


def _values(stream: BinaryIO, entry: TensorEntry) -> Iterator[Sequence[float]]:
    """Yield a tensor's numbers in blocks."""
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left > 0:
        block = stream.read(min(BLOCK, left))
        left -= len(block)
        yield array("f", block)


def register(
    connection: Connection,
    inspected: Inspected,
    *,
    key: str,
    model: str,
    name: str | None,
    owner: str,
    now: datetime,
) -> CheckpointRow:
    """Keep what a stored file is."""
    row = CheckpointRow(
        id=new_id(now),
        owner=owner,
        name=name,
        model=model,
        channels=inspected.fit.channels,
        classes=inspected.fit.classes,
        sha256=inspected.sha256,
        size=inspected.size,
        key=key,
        created_at=now,
    )
    connection.execute(checkpoints.insert().values(asdict(row)))
    return row


def get(connection: Connection, checkpoint_id: str) -> CheckpointRow:
    """Return an uploaded checkpoint. Raises NotFound."""
    row = connection.execute(
        sa.select(checkpoints).where(checkpoints.c.id == checkpoint_id)
    ).one_or_none()
    if row is None:
        raise NotFound("checkpoint", checkpoint_id)
    return CheckpointRow(**row._mapping)


def same(connection: Connection, owner: str, model: str, sha256: str) -> CheckpointRow | None:
    """Return what ``owner`` uploaded before with these bytes for this network, if anything."""
    row = connection.execute(
        sa.select(checkpoints)
        .where(
            checkpoints.c.owner == owner,
            checkpoints.c.model == model,
            checkpoints.c.sha256 == sha256,
        )
        .order_by(checkpoints.c.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else CheckpointRow(**row._mapping)


def listing(connection: Connection, *, limit: int = 200) -> list[CheckpointRow]:
    """Return what was uploaded, newest first."""
    query = sa.select(checkpoints).order_by(checkpoints.c.id.desc()).limit(limit)
    return [CheckpointRow(**row._mapping) for row in connection.execute(query)]
