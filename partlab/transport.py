"""Requests that survive a restart of the lab, and answers that are values or typed errors."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from socksio import SOCKSError as SocksError

from domain.errors import FieldError
from partlab.errors import (
    ClientError,
    NotALab,
    Overloaded,
    Unreachable,
    UnusableToken,
    UsageError,
    refusal,
)

A = TypeVar("A", bound=BaseModel)

PREFIX = "/api/v1"
JSON = {"Content-Type": "application/json"}
BLOCK = 1 << 20
AGAIN = frozenset({429, 502, 503, 504})
SOCKS_ERRORS = (SocksError, AssertionError)
"""What httpcore lets pass when a SOCKS proxy is none: it asserts the kind of every reply."""
NETWORK_ERRORS = (httpx.RequestError, *SOCKS_ERRORS)
NETWORK_VARIABLES = (
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"
)  # fmt: skip


@dataclass(frozen=True)
class Patience:
    """How long a request that may be repeated is repeated."""

    attempts: int = 6
    first_pause: float = 0.25
    """Seconds; doubled each time."""
    longest_pause: float = 4.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, attempt: int, asked: str | None = None) -> float:
        """Wait before another attempt, and return for how long.

        asked: the lab's Retry-After, in seconds.
        """
        seconds = min(self.longest_pause, self.first_pause * 2.0**attempt)
        if asked is not None and asked.isdecimal():
            seconds = min(30.0, float(asked))
        self.sleep(seconds)
        return seconds


def address(url: str) -> tuple[str, str]:
    """Return a lab's address as it is used, and its host. Raises Unreachable.

    Nothing but scheme, host and port: a password would be shown wherever the address is.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
        httpx.URL(url.strip())
    except (ValueError, httpx.InvalidURL):
        raise Unreachable(_no_address(url)) from None
    extras = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in {"http", "https"} or not host or any(extras) or " " in parts.netloc:
        raise Unreachable(_no_address(url))
    return f"{parts.scheme}://{parts.netloc}", host


def _no_address(url: str) -> str:
    # What stands before an @ may be a password.
    shown = url.rpartition("@")[2]
    return f"{shown!r} is no address of a lab; write http://host:port and nothing after it."


def _authorization(token: str | None) -> Mapping[str, str]:
    """Return the header that a token makes. Raises UnusableToken, which does not repeat it."""
    if not token or not token.strip():
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token.strip()):
        raise UnusableToken(
            "The token has a character that no token has, such as a line break, a space or a "
            "typographic quote; copy it again, and nothing beside it."
        )
    return {"Authorization": f"Bearer {token.strip()}"}


def _http_client(url: str, host: str, headers: Mapping[str, str], timeout: float) -> httpx.Client:
    # A proxy of the environment has no business on the way to this very machine.
    trust_env = not _is_loopback(host)
    try:
        return httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trust_env)
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        # Its words may repeat a proxy's password, so the variables are named instead.
        raise UsageError(
            f"The network settings of this shell cannot be used ({type(error).__name__}): "
            f"{_proxy_named()}. Correct or unset it."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".") == "localhost"


def _proxy_named() -> str:
    """Name the variables that lead requests elsewhere, without their values."""
    names = [name for name in NETWORK_VARIABLES if os.environ.get(name)]
    names += [name.lower() for name in NETWORK_VARIABLES if os.environ.get(name.lower())]
    return f"the proxy or certificate of {' and '.join(names)}" if names else "the system's proxy"


class Transport:
    """One connection pool to one lab."""

    def __init__(self, url: str, token: str | None, *, timeout: float, patience: Patience) -> None:
        self.url, host = address(url)
        self.patience = patience
        self._http = _http_client(self.url, host, _authorization(token), timeout)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, shape: type[A], **query: object) -> A:
        """Return the answer to a GET. Raises ClientError."""
        return shaped(self.send("GET", path, query=query, repeatable=True), shape)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Return a good response; repeat the request while that is safe and may help.

        repeatable: whether doing it twice is the same as doing it once.

        Raises Refused, Unreachable.
        """
        request = self._http.build_request(
            method,
            PREFIX + path,
            params=httpx.QueryParams(_query(query or {})),
            content=None if body is None else _encoded(body),
            headers={**_described(body), **(headers or {})},
            timeout=self._http.timeout if timeout is None else timeout,
        )
        attempt = 0
        while True:
            last = attempt + 1 >= self.patience.attempts
            try:
                response = self._http.send(request)
            except NETWORK_ERRORS as error:
                # What never left this machine may always be said again.
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise self.unreachable(error) from error
                self.patience.pause(attempt)
            else:
                if last or not repeatable or response.status_code not in AGAIN:
                    return accepted(response)
                self.patience.pause(attempt, response.headers.get("retry-after"))
            attempt += 1

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], *, silence: float
    ) -> Iterator[httpx.Response]:
        """Open a response to be read as it comes.

        silence: seconds without a byte after which the connection counts as lost.

        Raises Refused, Unreachable.
        """
        timeout = httpx.Timeout(10.0, read=silence)
        try:
            with self._http.stream(
                "GET", PREFIX + path, headers=dict(headers), timeout=timeout
            ) as response:
                if response.status_code >= 300:
                    response.read()
                accepted(response)
                yield response
        except NETWORK_ERRORS as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Unreachable:
        """Return what to tell a person when nothing answers."""
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"The lab at {self.url} does not answer in time.")
        if isinstance(error, (*SOCKS_ERRORS, httpx.ProxyError)):
            return Unreachable(f"{_proxy_named()} does not let us through to {self.url}.")
        if isinstance(error, httpx.DecodingError):
            return NotALab(f"{self.url} does not answer like a PART Lab ({error}).")
        return Unreachable(
            f"No lab answers at {self.url} ({error}). Start one here with `part up`, or name "
            "another with PART_URL or `part login`."
        )


@dataclass(frozen=True)
class FileBody:
    """A file to send; it can be sent again."""

    path: Path
    size: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the file at ``path``. Raises UsageError if there is none."""
        try:
            return cls(path, path.stat().st_size)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from error

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block


def _described(body: object) -> Mapping[str, str]:
    if isinstance(body, FileBody):
        return {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
    return {} if body is None else JSON


def _encoded(body: object) -> bytes | FileBody:
    if isinstance(body, FileBody):
        return body
    try:
        # Not escaped: half a character, of an argument that is no UTF-8, must not get through.
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"This cannot be sent as JSON: {error}.") from error


def _query(given: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Spell query parameters; None is left out, a tuple is repeated."""
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        several = value if isinstance(value, tuple | list) else (value,)
        pairs += [(name, _as_text(value)) for value in several if value is not None]
    return tuple(pairs)


def _as_text(value: object) -> str:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is no text in UTF-8.") from None
    return text


def accepted(response: httpx.Response) -> httpx.Response:
    """Return a good response. Raises Refused with the problem's fields."""
    if response.status_code < 300 or response.status_code == 304:
        return response
    body = _json_object(response)
    if "code" not in body and not response.is_server_error and response.status_code != 429:
        raise _stranger(response)
    errors = list(_field_errors(body.get("errors")))
    detail = str(body.get("detail") or f"HTTP {response.status_code} {response.reason_phrase}")
    raise refusal(response.status_code, str(body.get("code", "http")), detail, errors)


def _field_errors(given: object) -> Iterator[FieldError]:
    """Read which fields are wrong, as far as that can be read."""
    for entry in given if isinstance(given, list) else ():
        if isinstance(entry, dict) and "detail" in entry:
            yield FieldError(str(entry.get("pointer", "")), str(entry["detail"]))


def shaped(response: httpx.Response, shape: type[A]) -> A:
    """Read an answer. Raises NotALab if it is not a lab's."""
    try:
        return shape.model_validate_json(response.content)
    except ValidationError as error:
        raise _stranger(response) from error


def json_object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the answer as it is. Raises NotALab if it is no object."""
    body = _json_object(response)
    if not body:
        raise _stranger(response)
    return body


def _json_object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _stranger(response: httpx.Response) -> NotALab:
    base = f"{response.url.scheme}://{response.url.netloc.decode()}"
    return NotALab(
        f"{base} does not answer like a PART Lab of this version "
        f"(HTTP {response.status_code} on {response.url.path}). Check the address."
    )


def may_return(error: ClientError) -> bool:
    """Whether a lost connection is worth another try."""
    return isinstance(error, Unreachable | Overloaded) and not isinstance(error, NotALab)
