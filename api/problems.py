"""Errors as application/problem+json (RFC 9457): one table from error type to status."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain import errors
from domain.errors import FieldError, LabError, NotFound, SpecInvalid
from domain.field_errors import MOST_ERRORS, field_errors
from domain.wording import cut, sentence

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class RequestRefused(LabError):
    """The request cannot be served as HTTP, whatever it asks for."""

    code = "bad-request"


class NotJson(RequestRefused):
    """The body is not the JSON object it should be."""

    code = "invalid-json"


class UnknownMediaType(RequestRefused):
    """The body says it is something else than JSON."""

    code = "unsupported-media-type"


class RequestInvalid(SpecInvalid):
    """A parameter, or a field of a body that is no spec, is not what it should be."""

    code = "request-invalid"


class BodyTooLarge(RequestRefused):
    """The body is longer than the API reads."""

    code = "body-too-large"


class HostUnknown(RequestRefused):
    """The Host header names a host this API does not answer to."""

    code = "host-unknown"


class ForgeryRefused(RequestRefused):
    """A change asked for with a login cookie, without proof that the dashboard asked."""

    code = "csrf"


class RangeUnsatisfiable(RequestRefused):
    """The Range header asks for bytes the file does not have."""

    code = "range-unsatisfiable"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"The file has {size} bytes.")


STATUS: Mapping[type[LabError], int] = {
    errors.NotFound: 404,
    errors.SpecInvalid: 422,
    errors.CheckpointRefused: 422,
    errors.DiskFull: 507,
    errors.IdempotencyMismatch: 422,
    errors.QuotaExceeded: 429,
    errors.Unauthenticated: 401,
    errors.NotPermitted: 403,
    errors.VersionMismatch: 412,
    errors.Conflict: 409,
    errors.Fenced: 409,
    NotJson: 400,
    UnknownMediaType: 415,
    BodyTooLarge: 413,
    HostUnknown: 421,
    ForgeryRefused: 403,
    RangeUnsatisfiable: 416,
    RequestRefused: 400,
}
"""The table. An error takes the status of its nearest ancestor here; any other is a 500."""


def status_of(error: LabError) -> int:
    """Return the HTTP status of an error, 500 if the table does not know it."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem document. Its ``code`` is stable; ``detail`` is for people."""
    body: dict[str, Any] = {
        "type": f"urn:partlab:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in errors]
    # ASCII: a lone surrogate that a client sent has no UTF-8 form.
    content = json.dumps(body, ensure_ascii=True)
    return Response(content, status, headers=headers, media_type=MEDIA_TYPE)


def from_error(error: LabError) -> Response:
    """Translate an error of the lab."""
    status = status_of(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="PART Lab"'
    if isinstance(error, RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unlisted error", exc_info=error)
        return internal()
    fields = error.errors if isinstance(error, SpecInvalid) else ()
    return problem(status, error.code, str(error), errors=fields, headers=headers)


def internal() -> Response:
    """Return the 500 that tells a client nothing of the inside."""
    return problem(500, "internal", "Something failed here; the log has the request id.")


def unavailable() -> Response:
    """Return the 503 of a database that cannot be reached."""
    detail = "The database cannot be reached; try again in a moment."
    return problem(503, "storage-unavailable", detail, headers={"Retry-After": "2"})


def _invalid_request(error: RequestValidationError) -> Response:
    """Translate FastAPI's verdict on a body, a query or a path."""
    errors = error.errors()
    wrong_path = next((e for e in errors if e["loc"][0] == "path"), None)
    if wrong_path is not None:
        return from_error(NotFound("such thing", cut(str(wrong_path["input"]))))
    fields = [_field(e) for e in errors if e["loc"][0] != "body"]
    body = [{**e, "loc": e["loc"][1:]} for e in errors if e["loc"][0] == "body"]
    return from_error(RequestInvalid([*fields, *field_errors(body, error.body)][:MOST_ERRORS]))


def _field(error: Mapping[str, Any]) -> FieldError:
    """Name a query parameter as ``?name``, a header as ``header name``."""
    source, name = error["loc"][:2]
    return FieldError(f"?{name}" if source == "query" else f"{source} {name}", sentence(error))


def install(app: FastAPI) -> None:
    """Let ``app`` answer every error with a problem."""

    @app.exception_handler(LabError)
    async def lab_error(_: Request, error: LabError) -> Response:
        return from_error(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid_request(error)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "-")
        return problem(status, code, str(error.detail), headers=error.headers)

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolExhausted)
    async def no_database(_: Request, error: Exception) -> Response:
        log.error("database unavailable", exc_info=error)
        return unavailable()
