"""Artifact bytes over HTTP: ranges, conditional requests, and the hash on every answer."""

import base64
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from api.problems import RangeUnsatisfiable
from domain.errors import NotFound
from store.blobs import BLOCK, Blobs
from store.rows import ArtifactRow

SHOWN = frozenset({"image/png", "image/jpeg"})
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def byte_range(asked: str | None, size: int) -> tuple[int, int] | None:
    """Return first byte and end (exclusive) of a Range header; None for the whole file.

    Several ranges and other units are answered with the whole file, as RFC 9110 permits.

    Raises RangeUnsatisfiable.
    """
    found = _RANGE.fullmatch(asked.replace(" ", "")) if asked else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeUnsatisfiable(size)
    return start, end


def download(blobs: Blobs, file: ArtifactRow, headers: Headers) -> Response:
    """Answer a request for a file's bytes. Raises NotFound, RangeUnsatisfiable."""
    told = _headers(file)
    if told["ETag"] in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=told)
    unchanged = headers.get("if-range", told["ETag"]) == told["ETag"]
    asked = byte_range(headers.get("range") if unchanged else None, file.size)
    start, end = asked or (0, file.size)
    status = 200
    if asked is not None:
        status, told["Content-Range"] = 206, f"bytes {start}-{end - 1}/{file.size}"
    told["Content-Length"] = str(end - start)
    try:
        source = blobs.open(file.key, start=start)
    except NotFound:
        # The key is the store's own business.
        raise NotFound("content of artifact", file.id) from None
    return StreamingResponse(
        _blocks(source, end - start), status, headers=told, media_type=file.media_type
    )


def _headers(file: ArtifactRow) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    kind = "inline" if file.media_type in SHOWN else "attachment"
    return {
        "ETag": f'"{file.sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'{kind}; filename="{_file_name(file)}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, max-age=31536000, immutable",
    }


def _file_name(file: ArtifactRow) -> str:
    """Return a name no shell, header or folder can be hurt by."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", PurePosixPath(file.name).name) or "artifact"


def _blocks(source: BinaryIO, left: int) -> Iterator[bytes]:
    with source:
        while left > 0 and (block := source.read(min(BLOCK, left))):
            left -= len(block)
            yield block
