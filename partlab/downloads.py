"""Files of a run on this disk: resumed where they were cut off, kept only if the hash is right."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from partlab.answers import Artifact
from partlab.errors import ClientError, DigestMismatch, UsageError
from partlab.transport import Transport, may_return

BLOCK = 1 << 20
SILENCE = 30.0
Report = Callable[[int], None]


def target_of(artifact: Artifact, folder: Path) -> Path:
    """Return where a file goes below ``folder``. Raises UsageError if its name leads elsewhere."""
    target = (folder / artifact.name).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise UsageError(f"the lab calls a file {artifact.name!r}; that leads out of {folder}")
    return target


def fetch(
    transport: Transport, artifact: Artifact, target: Path, *, report: Report | None = None
) -> Path:
    """Download ``artifact`` to ``target``; a file that is there already and right is kept.

    report: told the number of bytes that are there.

    Raises DigestMismatch, ClientError.
    """
    try:
        return _fetch(transport, artifact, target, report or (lambda _: None))
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(
            f"{artifact.name} cannot be written to {target}: {error.filename} is in the way."
        ) from error


def _fetch(transport: Transport, artifact: Artifact, target: Path, report: Report) -> Path:
    if target.is_file() and sha256_of(target) == artifact.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{artifact.sha256[:8]}.part")
    _complete(transport, artifact, part, report)
    if (found := sha256_of(part)) != artifact.sha256:
        part.unlink()
        raise DigestMismatch(
            f"{artifact.name}: the lab recorded sha256 {artifact.sha256}, the download has "
            f"{found}. It was discarded; try again, and tell the operator if it stays so."
        )
    part.replace(target)
    return target


def _complete(transport: Transport, artifact: Artifact, part: Path, report: Report) -> None:
    attempt = 0
    while (have := _size(part)) < artifact.size or not part.exists():
        try:
            _append(transport, artifact, part, report)
        except ClientError as error:
            attempt = 0 if _size(part) > have else attempt + 1
            if attempt >= transport.patience.attempts or not may_return(error):
                raise
            transport.patience.pause(attempt)
        else:
            if _size(part) <= have:
                return


def _append(transport: Transport, artifact: Artifact, part: Path, report: Report) -> None:
    path = f"/runs/{artifact.run_id}/artifacts/{artifact.id}/content"
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{artifact.sha256}"'}
    with transport.stream(path, headers, silence=SILENCE) as response:
        resumed = response.status_code == 206
        with part.open("ab" if resumed else "wb") as file:
            have = have if resumed else 0
            for block in response.iter_bytes(BLOCK):
                file.write(block)
                file.flush()
                have += len(block)
                report(have)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def sha256_of(file: Path) -> str:
    """Return the hash of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
