"""Bodies of the API: one strict reader for all routes, before any of them looks.

A body is JSON whether it says so, says nothing, or bears the name that `curl -d` gives to all it
sends. That opens no door to forms of other sites: a login cookie changes nothing without its CSRF
header (:mod:`api.auth`), which no form can send, and a token is in no browser.
"""

from collections.abc import Collection

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import NotJson, RequestRefused, UnknownMediaType, from_error
from domain import json_text
from domain.wording import shown

JSON = "application/json"
TAKEN_FOR_JSON = frozenset({"", JSON, "application/x-www-form-urlencoded"})


class JsonBodies:
    """Refuses bodies that are no JSON, or say one thing twice; hands the others on as JSON.

    prefix: where the API is; the dashboard's forms are elsewhere. raw: paths below it whose bodies
    are files.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, raw: Collection[str]) -> None:
        self._app = app
        self._prefix = prefix
        self._raw = frozenset(raw)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not self._expects_json(scope):
            await self._app(scope, receive, send)
            return
        # api.edge has read the whole body, which it hands on in one message.
        message = await receive()
        try:
            message = _checked(scope, message)
        except RequestRefused as refusal:
            await from_error(refusal)(scope, receive, send)
            return
        await self._app(scope, _again(message, receive), send)

    def _expects_json(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            return False
        path = scope["path"]
        return path.startswith(f"{self._prefix}/") and path not in self._raw


def _checked(scope: Scope, message: Message) -> Message:
    """Return the body as JSON without a byte order mark. Raises UnknownMediaType, NotJson."""
    body = message.get("body", b"")
    if not body:
        return message
    headers = MutableHeaders(scope=scope)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TAKEN_FOR_JSON and not kind.endswith("+json"):
        raise UnknownMediaType(f"Send JSON as {JSON}, not {shown(kind)}.")
    try:
        text = json_text.decoded(body)
        json_text.parse(text)
    except json_text.Malformed as error:
        raise NotJson(f"The body is not JSON: {error}.") from None
    headers["content-type"] = JSON
    return {**message, "body": text.encode()}


def _again(message: Message, receive: Receive) -> Receive:
    """Return a channel that says a message, and then whatever the client says."""
    waiting: list[Message] = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
