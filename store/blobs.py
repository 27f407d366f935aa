"""Artifact bytes, in a folder or anything fsspec reaches. Keys are made here, never by a client."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from domain.errors import CheckpointInvalid, DiskFull, NotFound

BLOCK = 1 << 20
IDENTITY = ".partlab-store"
"""File with the word that a store is known by."""


class BlobMissing(NotFound):
    """What is registered is not in the artifact store: it is away, or has lost it."""

    def __init__(self, key: str) -> None:
        super().__init__("blob", key)


class Blobs:
    """A store of immutable files under one root."""

    def __init__(self, url: str) -> None:
        """Open the store at ``url``: a folder, or a URL such as ``s3://bucket/prefix``."""
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def disk(self) -> tuple[int, int] | None:
        """Return the free and total bytes of the disk it is on; None if it is no folder here."""
        root = Path(self._root)
        if not isinstance(self._fs, LocalFileSystem) or not root.is_dir():
            return None
        usage = shutil.disk_usage(root)
        return usage.free, usage.total

    def identity(self) -> str:
        """Return the word that this store is known by; it is made at first need.

        Raises OSError, and what the store's own driver raises.
        """
        path = self._path(IDENTITY)
        if not self._fs.exists(path):
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, secrets.token_hex(16).encode())
        word: bytes = self._fs.cat_file(path)
        return word.decode()[:64]

    def try_out(self) -> str:
        """Write, read and remove a small file; return :meth:`identity`.

        Raises OSError, and what the store's own driver raises.
        """
        path, content = self._path(f"{IDENTITY}.{secrets.token_hex(8)}"), secrets.token_bytes(64)
        self._fs.makedirs(self._root, exist_ok=True)
        try:
            self._fs.pipe_file(path, content)
            if self._fs.cat_file(path) != content:
                raise OSError("what was written is not what is read")
        finally:
            self._remove_quietly(path)
        return self.identity()

    def put(self, file: Path, *, run_id: str, attempt: int) -> str:
        """Store a file; return its key. It is complete under the key or not there at all.

        Raises DiskFull when there is no space; nothing is left behind then.
        """

        def write(path: str) -> None:
            self._fs.put_file(str(file), path)

        return self._put(write, f"{run_id}/{attempt}", file.name)

    def put_stream(self, source: BinaryIO, *, folder: str) -> str:
        """Store what can be read from ``source`` under a key in ``folder``; as :meth:`put`."""

        def write(path: str) -> None:
            with self._fs.open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, BLOCK)

        return self._put(write, folder, "the file")

    def _put(self, write: Callable[[str], None], folder: str, what: str) -> str:
        key = f"{folder}/{secrets.token_hex(16)}"
        part = self._path(f"{key}.part")
        try:
            self._fs.makedirs(part.rpartition("/")[0], exist_ok=True)
            write(part)
            self._fs.mv(part, self._path(key))
        except OSError as error:
            self._remove_quietly(part)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull(f"the artifact store has no space for {what}") from error
            raise
        self._sync(key)
        return key

    def open(self, key: str, *, start: int = 0) -> BinaryIO:
        """Open a blob for reading from byte ``start``. Raises BlobMissing."""
        try:
            stream = cast("BinaryIO", self._fs.open(self._path(key), "rb"))
        except FileNotFoundError:
            raise BlobMissing(key) from None
        stream.seek(start)
        return stream

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Copy a blob to ``target``. Raises BlobMissing, CheckpointInvalid if its hash differs."""
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with self.open(key) as source, part.open("wb") as sink:
            while block := source.read(BLOCK):
                digest.update(block)
                sink.write(block)
        if digest.hexdigest() != sha256:
            part.unlink()
            raise CheckpointInvalid(f"{target.name} in the artifact store is damaged")
        part.replace(target)

    def delete(self, key: str) -> None:
        """Remove a blob; one that is gone already is no error."""
        self._remove_quietly(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _remove_quietly(self, path: str) -> None:
        if self._fs.exists(path):
            self._fs.rm_file(path)

    def _sync(self, key: str) -> None:
        """Bring a local blob to the disk: a registered checkpoint survives a power cut."""
        path = Path(self._path(key))
        if self._fs.protocol in ("file", ("file", "local")) and path.exists():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
