"""Files that survive: safetensors, complete under their name or not there at all.

Nothing here can execute what it loads.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from domain.errors import CheckpointInvalid, DiskFull

MODEL = "model"
"""Prefix of a network's own tensors."""
_KEY = "partlab"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class SavedFile:
    """A file that lies complete on the disk."""

    path: Path
    sha256: str
    size: int


def write_file(path: Path, content: bytes) -> SavedFile:
    """Write ``content`` under a temporary name, sync it, and rename it to ``path``.

    Raises DiskFull when there is no space; what was at ``path`` before is intact then.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in _NO_SPACE:
            raise DiskFull(f"no space to write {path.name} ({len(content):,} bytes)") from error
        raise
    return SavedFile(path, hashlib.sha256(content).hexdigest(), len(content))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> SavedFile:
    """Write tensors and JSON metadata as one safetensors file. Raises DiskFull."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {_KEY: json.dumps(metadata, sort_keys=True)}
    return write_file(path, safetensors.torch.save(plain, metadata=header))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote. Raises CheckpointInvalid on anything else."""
    tensors, header = read(path)
    if _KEY not in header:
        raise CheckpointInvalid(f"{path.name} was not written by this lab")
    return tensors, json.loads(header[_KEY])


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a network's state out of any safetensors file, ours or a plain one; no metadata.

    Raises CheckpointInvalid when it cannot be read.
    """
    tensors, _ = read(path)
    return under(tensors, MODEL) or tensors


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read any safetensors file: tensors and header texts. Raises CheckpointInvalid."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointInvalid(f"{path.name} is no readable checkpoint: {error}") from error


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors named ``prefix/...``, without the prefix."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under ``prefix/...``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a hash of names, shapes and bytes of a state, whatever file it came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
