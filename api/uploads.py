"""A file on its way in: spooled, looked through, then kept; refused, it leaves nothing behind."""

import errno
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, BinaryIO, cast

import anyio
from anyio import to_thread

from api.lab import Lab
from domain.errors import DiskFull
from store import checkpoints
from store.engine import database_now
from store.rows import CheckpointRow, User

AT_ONCE = 2
"""Files that are written or looked through at a time, off the threads of other requests."""
_threads = anyio.CapacityLimiter(AT_ONCE)


async def keep(
    lab: Lab, user: User, body: AsyncIterator[bytes], *, model: str, name: str | None
) -> CheckpointRow:
    """Take an uploaded file in. Raises CheckpointRefused, DiskFull."""
    # A file without a name: whatever happens to this process, it is gone with it.
    with _spool(lab) as spool:
        async for block in body:
            await to_thread.run_sync(_write, spool, block, limiter=_threads)
        work = partial(_keep, lab, user, spool, model=model, name=name)
        return await to_thread.run_sync(work, limiter=_threads)


@contextmanager
def _spool(lab: Lab) -> Iterator[BinaryIO]:
    lab.settings.state_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=lab.settings.state_folder) as spool:
        yield cast("BinaryIO", spool)


def _write(spool: IO[bytes], block: bytes) -> None:
    try:
        spool.write(block)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull("the lab has no space for the file") from error
        raise


def _keep(lab: Lab, user: User, spool: BinaryIO, *, model: str, name: str | None) -> CheckpointRow:
    inspected = checkpoints.inspect(spool, model)
    with lab.reading() as connection:
        known = checkpoints.same(connection, user.name, model, inspected.sha256)
    return known or _store(lab, user, spool, inspected, model=model, name=name)


def _store(
    lab: Lab,
    user: User,
    spool: BinaryIO,
    inspected: checkpoints.Inspected,
    *,
    model: str,
    name: str | None,
) -> CheckpointRow:
    """Store the bytes, then their row; without the row the bytes go again."""
    spool.seek(0)
    key = lab.blobs.put_stream(spool, folder=checkpoints.FOLDER)
    try:
        with lab.writing() as connection:
            return checkpoints.register(
                connection,
                inspected,
                key=key,
                model=model,
                name=name,
                owner=user.name,
                now=database_now(connection),
            )
    except BaseException:
        lab.blobs.delete(key)
        raise
