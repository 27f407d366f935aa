"""The outermost layer: request ids and log lines, the Host check, body limits, safe headers."""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import BodyTooLarge, HostUnknown, RequestRefused, from_error, internal

log = logging.getLogger("api.requests")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


class Edge:
    """Wraps the whole application; every answer leaves through it.

    uploads: how many bytes may be posted to some paths; those bodies are not read here but passed
    on as they come.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Sequence[str],
        max_body_bytes: int,
        uploads: Mapping[str, int],
    ) -> None:
        self._app = app
        self._hosts = {host.lower() for host in allowed_hosts}
        self._max_body = max_body_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            await self._serve(scope, receive, answer)
        except ClientDisconnect:
            answer.status = 499
        except Exception:
            log.exception("request %s failed", answer.request_id)
            if answer.status == 0:
                await internal()(scope, receive, answer.send)
        finally:
            _log_line(scope, answer, time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            self._check_host(scope)
            channel = await self._channel(scope, receive)
        except RequestRefused as refusal:
            await from_error(refusal)(scope, receive, answer.send)
            return
        await self._app(scope, channel, answer.send)

    async def _channel(self, scope: Scope, receive: Receive) -> Receive:
        """Return where the application hears the body. Raises BodyTooLarge."""
        limit = self._uploads.get(scope["path"]) if scope["method"] == "POST" else None
        if limit is None:
            _check_length(scope, self._max_body)
            return _replay(await self._body(scope, receive), receive)
        _check_length(scope, limit)
        return _counted(receive, limit)

    def _check_host(self, scope: Scope) -> None:
        """Refuse foreign names: a page of another site may have its name resolve to this host."""
        host = Headers(scope=scope).get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if "*" not in self._hosts and name not in self._hosts:
            raise HostUnknown("This host name is not one of PARTLAB_ALLOWED_HOSTS.")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the whole body, which is short by rule. Raises BodyTooLarge."""
        body = bytearray()
        more = scope["method"] not in {"GET", "HEAD"}
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise _too_large(self._max_body)
            more = message.get("more_body", False)
        return bytes(body)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {limit:,} bytes at most.")


def _check_length(scope: Scope, limit: int) -> None:
    """Refuse a body by the length it is said to have. Raises BodyTooLarge."""
    told = Headers(scope=scope).get("content-length", "0")
    if told.isdecimal() and int(told) > limit:
        raise _too_large(limit)


def _counted(receive: Receive, limit: int) -> Receive:
    """Return a channel that raises BodyTooLarge after ``limit`` bytes of body."""
    heard = 0

    async def counted() -> Message:
        nonlocal heard
        message = await receive()
        heard += len(message.get("body", b""))
        if heard > limit:
            raise _too_large(limit)
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a channel that says the body again, once, and then whatever the client says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


class _Answer:
    """Sends a response with the lab's headers and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.request_id = secrets.token_hex(8)
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _log_line(scope: Scope, answer: _Answer, seconds: float) -> None:
    user = scope.get("user")
    log.info(
        "%s %s %s %d %.0f ms %s",
        answer.request_id,
        scope["method"],
        # A path may hold line breaks, %-encoded on the wire and decoded here.
        scope["path"].encode("unicode_escape").decode(),
        answer.status,
        seconds * 1000,
        getattr(user, "name", "-"),
    )


def redirect(location: str) -> Response:
    """Return a 303: the browser goes there with GET."""
    return Response(status_code=303, headers={"Location": location})
